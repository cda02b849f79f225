"""A device profile of this machine for another runtime than ONNX Runtime, from networks timed in it.

    python benchmarks/runtime_profiles.py build --files DIR                  # 9 small networks, as ONNX
    python benchmarks/runtime_profiles.py time --files DIR --runtimes ncnn,openvino
    python benchmarks/runtime_profiles.py fit --files DIR --runtimes ncnn,openvino     # DIR/RUNTIME.json

What `dtp-edge profile fit` does with a user's own latencies, with two things more that the user of an ncnn
or OpenVINO board would state: the runtime's channel step, and what a call costs before the first kernel (from
the smallest network). `runtime_speedup.py` prunes for these profiles. None of its networks is among the 9.
"""

from __future__ import annotations

import copy
import csv
import datetime
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from dtp_edge.cost import load_profile, parse_profile, save_profile
from dtp_edge.cost.fit_user import Measured, fit_measured, from_graph
from dtp_edge.export import check_runtimes, export_onnx
from dtp_edge.graph import trace_network

BASE = "celeron-n5105-ncnn-fp32-1t"
GRID = 8  # widths of the networks
STEPS = {"ncnn": 8, "openvino": 16}  # channels at once, seen on this machine (AVX-512)
FAMILIES = ("resnet", "separable", "inverted")
SMALLEST = "call"


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
    width = lambda low, high: GRID * int(rng.integers(low // GRID, high // GRID + 1))  # noqa: E731
    channels = width(8, 32)
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


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@click.option("--files", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=9)
def build(files: Path, count: int) -> None:
    """Write the networks; those that are there stay."""
    files.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        path = files / f"{seed:02d}.onnx"
        if not path.exists():
            _, module, x = network(seed)
            export_onnx(module, x, path)
    export_onnx(nn.Conv2d(1, 8, 1).eval(), torch.randn(1, 1, 2, 2), files / f"{SMALLEST}.onnx")


@main.command("time")
@click.option("--files", type=click.Path(path_type=Path), required=True)
@click.option("--runtimes", default="ncnn,openvino")
@click.option("--repeats", default=40)
def time_files(files: Path, runtimes: str, repeats: int) -> None:
    """Time every network in every runtime, one thread; the fastest of all visits counts."""
    for path in sorted(files.glob("*.onnx")):
        for row in check_runtimes(path, runtimes.split(","), repeats=repeats):
            if row.latency_ms is None:
                click.echo(f"{path.stem} {row.runtime}: {row.status} {row.detail}")
                continue
            table = files / f"{row.runtime}.csv"
            times = _times(table)
            times[path.stem] = min(row.latency_ms, times.get(path.stem, np.inf))
            lines = "".join(f"{name},{ms:.5g}\n" for name, ms in sorted(times.items()))
            table.write_text("network,latency_ms\n" + lines)


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
        times = _times(files / f"{runtime}.csv")
        base = base_profile(runtime)
        call_ms = times[SMALLEST]
        rows: list[Measured] = [
            from_graph(name, family, layers, times[name] - call_ms, base)
            for name, (family, layers) in graphs.items()
            if name in times
        ]
        changes = {
            "graph_overhead_ms": call_ms,
            "description": f"This machine, {runtime}, fp32, 1 thread",
            "runtime": {"name": runtime, "version": check_version(files, runtime)},
        }
        date = datetime.date.today().isoformat()
        document, held = fit_measured(
            base, rows, name=f"this-{runtime}", changes=changes, date=date, source="runtime_profiles.py"
        )
        save_profile(document, files / f"{runtime}.json")
        error = f"held-out median {held.median():.1%}, p90 {held.p90():.1%}"
        click.echo(f"{runtime}: a call {1e3 * call_ms:.0f} us, {error}")


def base_profile(runtime: str):
    """Return the shipped profile of an x86 board in ncnn, with this runtime's channel steps and fusion."""
    document = copy.deepcopy(dict(load_profile(BASE).document))
    for kernel in document["kernels"].values():
        if step := kernel.get("channel_step"):
            kernel["channel_step"] = dict.fromkeys(step, STEPS[runtime])
    document["fusion"]["add"] = runtime == "openvino"
    return parse_profile(document)


def check_version(files: Path, runtime: str) -> str:
    (row,) = check_runtimes(files / f"{SMALLEST}.onnx", [runtime])
    return row.version or "unknown"


def _times(table: Path) -> dict[str, float]:
    if not table.is_file():
        return {}
    with table.open(newline="") as stream:
        return {row["network"]: float(row["latency_ms"]) for row in csv.DictReader(stream)}


if __name__ == "__main__":
    main()
