"""Does the predicted speed-up arrive in other runtimes? Dense and pruned files, timed in turns, one thread.

    python -m benchmarks.runtimes.speedup prepare --files DIR      # prune to --latency of --device and export
    python -m benchmarks.runtimes.speedup time --files DIR         # on a quiet machine

The default device predicts for ONNX Runtime on the machine of the results. Another runtime wants a profile of
its own, as `fit.py` makes it: `--device DIR/litert.json`, and `--runtimes litert` to time. Widths
are those of `prune_for_device` ("any": a profile of fitted rates counts activations by the byte, so they need
not be multiples of the channel step), or, with `--step 16`, multiples of 16 only.
Writes benchmarks/results/runtime_speedup.{csv,md}. "share" is the measured fall of the latency over the
predicted one: 1 means that all of it arrived, and 0.9 to 1.1 is asked for.
"""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import dtp_edge as dtp
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runtimes import edge_networks
from benchmarks.runtimes.maker import make_files, store
from benchmarks.runtimes.timer import time_in_turns
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.run.options import Options
from dtp_edge.run.pipeline import prune
from dtp_edge.surgery import compact
from dtp_edge.transport import initial_scores

HOST = "epyc-zen5-onnxruntime-fp32-1t"
FIELDS = (
    "network",
    "device",
    "widths",
    "runtime",
    "version",
    "predicted_dense_ms",
    "dense_ms",
    "predicted_pruned_ms",
    "pruned_ms",
    "predicted_fall",
    "fall",
    "share",
)
ABOUT = """Networks pruned to 60 % of the latency that a profile of the runtime on this machine predicts, and
both files timed in turns in that runtime, one thread. In brackets the predicted milliseconds. The share is
the measured fall over the predicted one. Written by `python -m benchmarks.runtimes.speedup page`."""
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Folder of the ONNX files."
)
NETWORKS = click.option(
    "--networks",
    default="resnet8,resnet20,resnet32,dscnn,mobilenetv1_vww,mobilenetv2_cifar,vgg19,mobilenetv2",
    help="Names, with commas.",
)


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@FILES
@NETWORKS
@click.option("--device", default=HOST)
@click.option("--latency", default="60%")
@click.option("--step", default=0, help="Widths are multiples of it; 0: the widths that the product chooses.")
def prepare(files: Path, networks: str, device: str, latency: str, step: int) -> None:
    """Write NAME.dense.onnx, NAME.pruned.onnx and NAME.json with the predicted latencies."""
    files.mkdir(parents=True, exist_ok=True)
    for name in networks.split(","):
        stem = f"{name}.{Path(device).stem}"
        if (files / f"{stem}.json").exists():
            continue
        model, example = edge_networks.create(name)
        share = float(latency.removesuffix("%")) / 100
        pruned, facts = (
            aligned(model, example, device, share, step) if step else product(model, example, device, latency)
        )
        edge_networks.calibrate_norms(pruned, example)
        if not (files / f"{name}.dense.onnx").exists():
            store(files / f"{name}.dense", model, example)
            export_onnx(model, example, files / f"{name}.dense.onnx")
        store(files / f"{stem}.pruned", pruned, example)
        export_onnx(pruned, example, files / f"{stem}.pruned.onnx")
        facts |= {"device": Path(device).stem, "widths": f"multiples of {step}" if step else "any"}
        (files / f"{stem}.json").write_text(json.dumps(facts))
        click.echo(f"{name}: {facts}")


def product(
    model: torch.nn.Module, example: torch.Tensor, device: str, latency: str
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the network as `prune_for_device` makes it, and the latencies that it predicts."""
    options = Options(dtp.Budget(latency=latency), device=device, measure=False)
    result = prune(model, example, options)
    (row,) = [r for r in result.report["budgets"] if r["metric"] == "latency_ms"]
    return result.module, {"dense": row["dense_predicted"], "pruned": row["pruned_predicted"]}


def aligned(
    model: torch.nn.Module, example: torch.Tensor, device: str, share: float, step: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the network with all cut widths multiples of `step`: a step at a time where it costs least."""
    network = trace_network(model, (example,))
    cost = NetworkCost(network.layers, load_profile(device))
    scores = initial_scores(network, "l2")
    keep = np.ones(network.n_atoms, dtype=bool)

    def latency_ms(mask: np.ndarray) -> float:
        return cost.evaluate(network.layers.sizes(mask.astype(float)))["latency_ms"]

    dense = now = latency_ms(keep)
    while now > share * dense:
        options = []
        for group in network.groups:
            kept = group.start + np.flatnonzero(keep[group.start : group.stop])
            count = max(1, step // group.channels_per_atom)
            count = len(kept) % count or count
            if len(kept) * group.channels_per_atom <= step:
                continue
            trial = keep.copy()
            trial[kept[np.argsort(scores[kept])[:count]]] = False
            after = latency_ms(trial)
            if after < now:
                lost = scores[keep & ~trial].sum()
                options.append((lost / (now - after), group.start, after, trial))
        if not options:
            raise SystemExit(f"{share:.0%} cannot be had with widths that are multiples of {step}")
        _, _, now, keep = min(options, key=operator.itemgetter(0, 1))
    return compact(network, keep).module, {"dense": dense, "pruned": now}


@main.command("make")
@FILES
@NETWORKS
@click.option("--device", default=HOST, help="As in prepare.")
@click.option("--runtimes", default="executorch,litert")
def make_all(files: Path, networks: str, device: str, runtimes: str) -> None:
    """Make the files of runtimes that read another format than ONNX; `time` does so where it was left out."""
    for runtime in runtimes.split(","):
        make_files(runtime, _paths(files, networks.split(","), Path(device).stem), files / "work")


def _paths(files: Path, names: list[str], stem: str) -> list[Path]:
    return [files / f"{n}.{which}.onnx" for n in names for which in ("dense", f"{stem}.pruned")]


@main.command("time")
@FILES
@NETWORKS
@click.option("--device", default=HOST, help="As in prepare.")
@click.option("--runtimes", default="onnxruntime")
@click.option("--rounds", default=10, help="All files in turns, so often.")
@click.option("--repeats", default=10, help="Timed runs of a file in a round.")
def time_files(files: Path, networks: str, device: str, runtimes: str, rounds: int, repeats: int) -> None:
    """Time both files of each network in each runtime, in turns, and write the table."""
    stem = Path(device).stem
    names = networks.split(",")
    paths = _paths(files, names, stem)
    for runtime in runtimes.split(","):
        times, version = time_in_turns(runtime, paths, files / "work", rounds=rounds, repeats=repeats)
        rows = []
        for name in names:
            facts = json.loads((files / f"{name}.{stem}.json").read_text())
            dense, pruned = times[f"{name}.dense"], times[f"{name}.{stem}.pruned"]
            fall, predicted = 1 - pruned / dense, 1 - facts["pruned"] / facts["dense"]
            numbers = (facts["dense"], dense, facts["pruned"], pruned, predicted, fall, fall / predicted)
            values = (
                name,
                stem,
                facts.get("widths", "any"),
                runtime,
                version,
                *(f"{v:.4g}" for v in numbers),
            )
            rows.append(dict(zip(FIELDS, values, strict=True)))
            click.echo(" ".join(f"{k} {v}" for k, v in rows[-1].items()))
        EXPERIMENTS["runtime_speedup"].merge(rows)


@main.command()
def page() -> None:
    """Write the page of the rows that are there."""
    EXPERIMENTS["runtime_speedup"].write_page()


def whole_page() -> str:
    """The page of the committed rows."""
    rows = EXPERIMENTS["runtime_speedup"].read()
    lines = ["# Does the predicted speed-up arrive?", "", ABOUT, ""]
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["runtime"], row["version"], row["widths"]), []).append(row)
    for (runtime, version, widths), found in groups.items():
        shares = [float(row["share"]) for row in found]
        near = sum(0.9 <= share <= 1.1 for share in shares)
        lines += [f"## {runtime} {version}, widths: {widths}", ""]
        lines += ["| network | dense ms | pruned ms | predicted fall | measured fall | share |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [
            f"| {r['network']} | {r['dense_ms']} ({r['predicted_dense_ms']}) | {r['pruned_ms']} "
            f"({r['predicted_pruned_ms']}) | {float(r['predicted_fall']):.1%} | {float(r['fall']):.1%} | "
            f"{float(r['share']):.2f} |"
            for r in found
        ]
        lines += ["", f"{near} of {len(found)} within 10 %; in the median {np.median(shares):.2f}.", ""]
    origins = "; ".join(dict.fromkeys(row["origin"] for row in rows))
    return "\n".join([*lines, f"Made by: {origins}", ""])


if __name__ == "__main__":
    main()
