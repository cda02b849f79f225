"""A device profile of this machine for another runtime than ONNX Runtime, from networks timed in it.

    python -m benchmarks.runtimes.fit build --files DIR --runtimes RUNTIMES  # 24 small networks
    python -m benchmarks.runtimes.fit time --files DIR --runtimes RUNTIMES   # on a quiet machine
    python -m benchmarks.runtimes.fit fit --files DIR --runtimes RUNTIMES    # DIR/RUNTIME.json

RUNTIMES are names with commas (openvino,executorch,litert). What `dtp-edge profile fit` does with a user's
own latencies, with three things more that the user of such a board would state: the runtime's channel step
(that of STEPS, round the profile of BASES, with which networks left out are predicted best), what a call
costs before the first layer, and what a layer costs however small it is (from two chains of small layers).
A processor may multiply ten times as fast as the profile's and yet start a layer no sooner. Half of the
networks have round widths, half any width, as after pruning. `speedup.py` prunes for these profiles; none of
its networks is among them.
"""

from __future__ import annotations

import copy
import csv
import datetime
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from benchmarks.runtimes.maker import make_files, store
from benchmarks.runtimes.timer import time_in_turns
from dtp_edge.fitting.own_latencies import fit_measured, from_graph
from dtp_edge.fitting.rates import HeldOut
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles import Profile, parse_profile, save_profile

# Like which boards it may be: 3x3 convolutions by Winograd, or all by products, or as many cores compute.
BASES = ("celeron-n5105-ncnn-fp32-1t", "arm-a55-generic-fp32-1t", "rpi4-ncnn-fp32-4t")
STEP = 16  # channels at once on this machine (AVX-512); the round networks' widths are multiples of it
STEPS = ((1, 1), (1, 8), (1, 16), (8, 8), (16, 16))  # that are tried: in, out
SIDES = ("in_channels", "out_channels")
FAMILIES = ("resnet", "separable", "inverted")
CHAINS = (4, 44)  # layers of the two chains
THIN = 100  # networks from this number on have any widths


def conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(cout))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(self, cin: int, middle: int, cout: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(cin, middle, 3, stride), nn.ReLU(), conv(middle, cout, 3))
        same = cin == cout and stride == 1
        self.side = nn.Identity() if same else conv(cin, cout, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.side(x))


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, cin: int, middle: int, cout: int, stride: int) -> None:
        super().__init__()
        wide = [conv(cin, middle, 1), nn.ReLU6(), conv(middle, middle, 3, stride, middle), nn.ReLU6()]
        self.body = nn.Sequential(*wide, conv(middle, cout, 1))
        self.same = cin == cout and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.same else self.body(x)


def network(seed: int) -> tuple[str, nn.Module, torch.Tensor]:
    """Return one random network: its family, the module in eval mode and an input.

    Widths are multiples of 16; from THIN on, any from a fifth of that to all of it.
    """
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    size = int(rng.choice({"resnet": [32, 48, 64], "separable": [64, 96, 128]}.get(family, [96, 160, 224])))

    def width(low: int, high: int) -> int:
        round_width = STEP * int(rng.integers(low // STEP, high // STEP + 1))
        return max(3, round(round_width * rng.uniform(0.2, 1.0))) if seed >= THIN else round_width

    channels = width(16, 32)
    first = 1 if family == "resnet" else 2
    layers: list[nn.Module] = [conv(3, channels, 3, first), nn.ReLU()]
    for stage in range(int(rng.integers(3, 5))):
        for block in range(int(rng.integers(1, 4))):
            stride = 2 if block == 0 and stage else 1
            out = width(16, 32 << stage) if block == 0 else channels
            if family == "resnet":
                layers.append(Residual(channels, width(16, 32 << stage), out, stride))
            elif family == "separable":
                layers += [conv(channels, channels, 3, stride, channels), nn.ReLU()]
                layers += [conv(channels, out, 1), nn.ReLU()]
            else:
                layers.append(Inverted(channels, width(32, 96 << stage), out, stride))
            channels = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, int(rng.choice([2, 10, 1000])))]
    torch.manual_seed(seed)
    return family, nn.Sequential(*layers, *head).eval(), torch.randn(1, 3, size, size)


def chain(layers: int) -> nn.Module:
    """Return small layers, one after the other, in which the products cost next to nothing."""
    parts = [nn.Sequential(nn.Conv2d(STEP, STEP, 1), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*parts).eval()


FILES = click.option("--files", type=click.Path(path_type=Path), required=True, help="Folder of all files.")
RUNTIMES = click.option("--runtimes", default="openvino,executorch,litert", help="Names, with commas.")


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@FILES
@RUNTIMES
@click.option("--count", default=12, help="Networks of round widths, and as many of any.")
def build(files: Path, runtimes: str, count: int) -> None:
    """Write the networks, and the files of those runtimes that read another format; what is there stays."""
    files.mkdir(parents=True, exist_ok=True)
    for seed in (*range(count), *range(THIN, THIN + count)):
        _, module, x = network(seed)
        _write(files / f"{seed:02d}.onnx", module, x)
    for layers in CHAINS:
        _write(files / f"chain{layers}.onnx", chain(layers), torch.randn(1, STEP, 4, 4))
    for runtime in runtimes.split(","):
        make_files(runtime, sorted(files.glob("*.onnx")), files / "work")


def _write(path: Path, module: nn.Module, x: torch.Tensor) -> None:
    if not path.exists():
        store(path.with_suffix(""), module, x)
        export_onnx(module, x, path)


@main.command("time")
@FILES
@RUNTIMES
@click.option("--rounds", default=8, help="Every network in turn, so often.")
@click.option("--repeats", default=10, help="Timed runs of a network in a round.")
def time_files(files: Path, runtimes: str, rounds: int, repeats: int) -> None:
    """Time every network in every runtime, in turns, one thread."""
    for runtime in runtimes.split(","):
        paths = sorted(files.glob("*.onnx"))
        times, version = time_in_turns(runtime, paths, files / "work", rounds=rounds, repeats=repeats)
        lines = "".join(f"{name},{ms:.5g}\n" for name, ms in sorted(times.items()))
        (files / f"{runtime}.csv").write_text(f"# {version}\nnetwork,latency_ms\n{lines}")
        click.echo(f"{runtime} {version}: {len(times)} networks")


@main.command()
@FILES
@RUNTIMES
@click.option("--suffix", default="", help="Of the profiles' names.")
def fit(files: Path, runtimes: str, suffix: str) -> None:
    """Fit a profile for each runtime and print its held-out error."""
    graphs = {}
    for path in sorted(files.glob("[0-9]*.onnx")):
        family, module, x = network(int(path.stem))
        graphs[path.stem] = (family, trace_network(module, (x,)).layers)
    for runtime in runtimes.split(","):
        times, version = _times(files / f"{runtime}.csv")
        short, long = (times[f"chain{n}"] for n in CHAINS)
        layer_ms = (long - short) / (CHAINS[1] - CHAINS[0])
        call_ms = max(short - CHAINS[0] * layer_ms, 0.0)
        measured = {name: times[name] - call_ms for name in graphs if name in times}
        changes = {
            "graph_overhead_ms": call_ms,
            "description": f"This machine, {runtime}, fp32, 1 thread",
            "runtime": {"name": runtime, "version": version},
        }
        found = []
        for like, steps in itertools.product(BASES, STEPS):
            base = base_profile(like, runtime, layer_ms, graphs, measured, steps)
            found.append((*fitted(base, runtime, graphs, measured, changes), steps))
            held = found[-1][1]
            said = f"median {held.median():.1%}, p90 {held.p90():.1%}"
            click.echo(f"  {like}, steps {steps}: {said}", err=True)
        document, held, steps = min(found, key=lambda one: float(np.mean(_log_error(one[1]))))
        save_profile(document, files / f"{runtime}{suffix}.json")
        error = f"held-out median {held.median():.1%}, p90 {held.p90():.1%}"
        at_least = f"a call {1e3 * call_ms:.0f} us, a layer {1e3 * layer_ms:.2f} us"
        click.echo(f"{runtime}: {document['provenance']['how']}")
        click.echo(f"  {at_least}, steps {steps}, {error}")


def fitted(
    base: Profile,
    runtime: str,
    graphs: Mapping[str, tuple[str, Any]],
    measured: Mapping[str, float],
    changes: Mapping[str, Any],
) -> tuple[dict[str, Any], HeldOut]:
    """Return the profile that is fitted to the networks, and its predictions of those left out."""
    rows = [
        from_graph(name, family, layers, measured[name], base)
        for name, (family, layers) in graphs.items()
        if name in measured
    ]
    date = datetime.date.today().isoformat()
    return fit_measured(
        base, rows, name=f"this-{runtime}", changes=changes, date=date, source="benchmarks.runtimes.fit"
    )


def _log_error(held: HeldOut) -> np.ndarray:
    return np.abs(np.log(held.predicted_ms / held.measured_ms))


def base_profile(
    like: str,
    runtime: str,
    layer_ms: float,
    graphs: Mapping[str, tuple[str, Any]],
    measured: Mapping[str, float],
    steps: tuple[int, int],
) -> Profile:
    """Return a shipped profile with this runtime's steps, fusion and layer time.

    All its rates are multiplied by one number, with which the median network takes the time measured.
    """
    document = copy.deepcopy(dict(load_profile(like).document))
    document["fusion"]["add"] = runtime == "openvino"
    document["graph_overhead_ms"] = 0.0
    for kernel in document["kernels"].values():
        kernel["overhead_ms"] = 0.0
        if "channel_step" in kernel:
            kernel["channel_step"] = {
                k: s for k, s in zip(SIDES, steps, strict=True) if k in kernel["channel_step"]
            }
    free = parse_profile(document)
    for kernel in document["kernels"].values():
        kernel["overhead_ms"] = layer_ms
    ratios = []
    for name, latency_ms in measured.items():
        family, layers = graphs[name]
        work = sum(from_graph(name, family, layers, latency_ms, free).amounts.values())
        whole = sum(from_graph(name, family, layers, latency_ms, parse_profile(document)).amounts.values())
        ratios.append(max(latency_ms - (whole - work), 0.1 * latency_ms) / work)
    for kernel in document["kernels"].values():
        for rate in [r for r in kernel if r.endswith("_per_second")]:
            kernel[rate] /= float(np.median(ratios))
    document["memory_bytes_per_second"] /= float(np.median(ratios))
    return parse_profile(document)


def _times(table: Path) -> tuple[dict[str, float], str]:
    with table.open(newline="") as stream:
        version = next(stream).removeprefix("# ").strip()
        return {row["network"]: float(row["latency_ms"]) for row in csv.DictReader(stream)}, version


if __name__ == "__main__":
    main()
