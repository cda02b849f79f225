"""Write the kernels of the networks that fits know: `python tools/network_kernels.py [NAME ...]`.

Traces every network of `tools/networks/catalogue.py` (torchvision, timm, ultralytics and transformers must be
installed) and appends what `cost` would run, under each fusion of `fitting/networks.py`, to its table. A
network that is there already is passed over; one that cannot be traced is named, and left out.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dtp_edge.cost.kernels import lower
from dtp_edge.fitting.networks import FUSIONS, TABLE, NetworkKernel, kernels_of, read_networks, write_networks
from dtp_edge.graph import trace_network
from dtp_edge.profiles.profile import Fusion
from tools.networks.builders import build, example
from tools.networks.catalogue import CATALOGUE


def traced(name: str) -> list[NetworkKernel]:
    """Return one network's kernels under every fusion, equal ones counted."""
    call, size = CATALOGUE[name]
    network = trace_network(build(call), example(size))
    rows: list[NetworkKernel] = []
    for fusion, rules in FUSIONS.items():
        lowered = lower(network.layers, Fusion(**rules))
        counts = Counter(kernels_of(lowered, network.layers))
        rows += [NetworkKernel(name, fusion, kernel, count) for kernel, count in counts.items()]
    return rows


def main(names: list[str]) -> None:
    known = read_networks(TABLE) if TABLE.is_file() else {}
    rows = [row for rows in known.values() for row in rows]
    have = {name for name, _ in known}
    for name in names or [n for n in CATALOGUE if n not in have]:
        start = time.monotonic()
        try:
            found = traced(name)
        except Exception as error:
            print(f"{name:28s} left out: {type(error).__name__}: {str(error)[:140]}", flush=True)
            continue
        rows = [row for row in rows if row.network != name] + found
        first = [row for row in found if row.fusion == next(iter(FUSIONS))]
        gmacs = sum(row.kernel.macs * row.count for row in first) / 1e9
        weights = sum(row.kernel.weight_elements * row.count for row in first) / 1e6
        print(
            f"{name:28s} {gmacs:8.3f} GMAC {weights:8.2f} M weights {sum(r.count for r in first):4d} kernels"
            f" {time.monotonic() - start:5.1f} s",
            flush=True,
        )
        gc.collect()
        write_networks(TABLE, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
