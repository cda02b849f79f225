"""A device profile of this machine for another runtime than ONNX Runtime, from networks timed in it.

    python -m benchmarks.runtimes.fit build --files DIR                  # 24 small networks, as ONNX
    python -m benchmarks.runtimes.fit time --files DIR --runtimes ncnn,openvino
    python -m benchmarks.runtimes.fit fit --files DIR --runtimes ncnn,openvino     # DIR/RUNTIME.json

What `dtp-edge profile fit` does with a user's own latencies, with three things more that the user of an ncnn
or OpenVINO board would state: the runtime's channel step, what a call costs before the first layer, and what
a layer costs however small it is (from two chains of small layers). A processor may multiply ten times as
fast as the profile's and yet start a layer no sooner. `speedup.py` prunes for these profiles; none of
its networks is among the 24.
"""

from __future__ import annotations

import copy
import csv
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from benchmarks.runtimes.timer import time_in_turns
from dtp_edge.fitting.own_latencies import fit_measured, from_graph
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles import Profile, parse_profile, save_profile

BASE = "celeron-n5105-ncnn-fp32-1t"
# Channels at once on this machine (AVX-512). ncnn packs 16, or 8 or 4 where the width is no multiple of it.
STEP = 16
FAMILIES = ("resnet", "separable", "inverted")
CHAINS = (4, 44)  # layers of the two chains
WIDTHS = (8, 16, 24, 32, 40, 48)  # of the networks that show the staircase; they are not in the fit


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
    """Return one random network: its family, the module in eval mode and an input."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    size = int(rng.choice({"resnet": [32, 48, 64], "separable": [64, 96, 128]}.get(family, [96, 160, 224])))
    width = lambda low, high: STEP * int(rng.integers(low // STEP, high // STEP + 1))  # noqa: E731
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


def flight(width: int) -> nn.Module:
    """Return one network of the staircase: six convolutions of one width, the first from 16 channels."""
    sizes = [STEP, *[width] * 6]
    kernels = (1, 1, 3, 1, 3, 3)
    parts = [nn.Conv2d(a, b, k, padding=k // 2) for a, b, k in zip(sizes, sizes[1:], kernels, strict=False)]
    return nn.Sequential(*[m for part in parts for m in (part, nn.ReLU())]).eval()


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@click.option("--files", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=24)
def build(files: Path, count: int) -> None:
    """Write the networks; those that are there stay."""
    files.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        path = files / f"{seed:02d}.onnx"
        if not path.exists():
            _, module, x = network(seed)
            export_onnx(module, x, path)
    for layers in CHAINS:
        export_onnx(chain(layers), torch.randn(1, STEP, 4, 4), files / f"chain{layers}.onnx")
    for width in WIDTHS:
        export_onnx(flight(width), torch.randn(1, STEP, 28, 28), files / f"width{width}.onnx")


@main.command("time")
@click.option("--files", type=click.Path(path_type=Path), required=True)
@click.option("--runtimes", default="ncnn,openvino")
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
@click.option("--files", type=click.Path(path_type=Path), required=True)
@click.option("--runtimes", default="ncnn,openvino")
def fit(files: Path, runtimes: str) -> None:
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
        base = base_profile(runtime, layer_ms, graphs, measured)
        rows = [
            from_graph(name, family, layers, measured[name], base)
            for name, (family, layers) in graphs.items()
            if name in measured
        ]
        changes = {
            "graph_overhead_ms": call_ms,
            "description": f"This machine, {runtime}, fp32, 1 thread",
            "runtime": {"name": runtime, "version": version},
        }
        date = datetime.date.today().isoformat()
        document, held = fit_measured(
            base, rows, name=f"this-{runtime}", changes=changes, date=date, source="benchmarks.runtimes.fit"
        )
        save_profile(document, files / f"{runtime}.json")
        error = f"held-out median {held.median():.1%}, p90 {held.p90():.1%}"
        click.echo(f"{runtime}: a call {1e3 * call_ms:.0f} us, a layer {1e3 * layer_ms:.2f} us, {error}")
        click.echo("  by width: " + ", ".join(f"{w}: {times[f'width{w}']:.4f} ms" for w in WIDTHS))


def base_profile(
    runtime: str, layer_ms: float, graphs: Mapping[str, tuple[str, Any]], measured: Mapping[str, float]
) -> Profile:
    """Return the shipped profile of an x86 board in ncnn with this runtime's steps, fusion and layer time.

    All its rates are multiplied by one number, with which the median network takes the time measured.
    """
    document = copy.deepcopy(dict(load_profile(BASE).document))
    document["fusion"]["add"] = runtime == "openvino"
    document["graph_overhead_ms"] = 0.0
    for kernel in document["kernels"].values():
        kernel["overhead_ms"] = 0.0
        if "channel_step" in kernel:
            kernel["channel_step"] = dict.fromkeys(kernel["channel_step"], STEP)
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
