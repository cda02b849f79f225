"""How right is the profile of this machine? Held-out networks, dense and pruned to odd widths.

    python benchmarks/host_accuracy.py [--quick] [--threads 1] [--only resnet]

Measures the machine, then predicts torchvision and timm networks that no fit has seen and times them in
ONNX Runtime, interleaved, in the same process. Writes benchmarks/results/host_accuracy-*.{csv,svg,txt}.
Needs torchvision and timm.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from dtp_edge.cost import NetworkCost, load_profile
from dtp_edge.cost.check import CheckResult, check_profile
from dtp_edge.cost.machine import cpu_model
from dtp_edge.cost.measure import measure_host
from dtp_edge.cost.profile import Profile, save_profile
from dtp_edge.export import compact, export_onnx
from dtp_edge.graph import trace_network
from dtp_edge.graph.layers import LayerGraph

RESULTS = Path(__file__).parent / "results"
TORCHVISION = [
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "mnasnet1_0",
    "efficientnet_b0",
    "regnet_y_400mf",
    "regnet_x_400mf",
    "densenet121",
    "googlenet",
    "vgg11_bn",
]
TIMM = [
    "mobilenetv3_small_100",
    "efficientnet_lite0",
    "ghostnet_100",
    "hardcorenas_a",
    "fbnetc_100",
    "tf_efficientnetv2_b0",
    "resnet26d",
    "repvgg_a0",
    "mixnet_s",
    "semnasnet_100",
    "rexnet_100",
    "lcnet_050",
    "tinynet_e",
    "vit_tiny_patch16_224",
    "mobileone_s0",
    "dla46_c",
    "regnetx_002",
    "regnety_004",
]
PRUNED = 3  # every third network is also pruned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the quick profile")
    parser.add_argument("--profile", help="a profile file in place of measuring")
    parser.add_argument("--save", help="write the measured profile here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--models", default="", help="folder that keeps the exported networks")
    parser.add_argument("--prepare", action="store_true", help="only export the networks")
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.models or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        cases = prepare(folder, options.only)
        if options.prepare:
            return
        known = [(name, path, *layers_of(path)) for name, path in cases if path.exists()]
        profile = (
            load_profile(options.profile)
            if options.profile
            else measure_host(options.threads, quick=options.quick, progress=show)
        )
        if options.save:
            save_profile(profile.document, options.save)
        result = compare(known, profile, options)
    report(result, profile, options)


def prepare(folder: Path, only: str) -> list[tuple[str, Path]]:
    """Export every network, dense and (some) pruned to odd widths."""
    cases = []
    names = [f"torchvision:{n}" for n in TORCHVISION] + [f"timm:{n}" for n in TIMM]
    for place, name in enumerate(n for n in names if only in n):
        for fraction in (None, *((0.6,) if place % PRUNED == 0 else ())):
            label = name if fraction is None else f"{name} pruned {fraction}"
            path = folder / (label.replace(":", "_").replace(" ", "_") + ".onnx")
            if not path.exists():
                build(name, fraction, path)
            cases.append((label, path))
    return cases


def network_of(name: str, seed: int = 0):
    """Return the traced network of torchvision:NAME or timm:NAME with random weights."""
    torch.manual_seed(seed)
    library, model = name.split(":")
    if library == "torchvision":
        import torchvision

        module = torchvision.models.get_model(model, weights=None)
    else:
        import timm

        module = timm.create_model(model, pretrained=False, exportable=True)
    return trace_network(module.eval(), (torch.randn(1, 3, 224, 224),))


def build(name: str, fraction: float | None, path: Path) -> None:
    """Write the ONNX file and, beside it, the keep vector that made it."""
    try:
        network = network_of(name)
        keep = np.ones(network.n_atoms, dtype=bool)
        if fraction is not None:
            seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
            keep = random_widths(network, fraction, np.random.default_rng(seed))
        module = compact(network, keep, in_place=False).module if fraction is not None else network.module
        export_onnx(module, network.example_inputs, path)
        np.save(path.with_suffix(".npy"), keep)
        print(f"exported {path.stem}", flush=True)
    except Exception as error:  # a network that cannot be traced or exported is reported, not hidden
        path.with_suffix(".failed").write_text(f"{type(error).__name__}: {error}")
        print(f"left out {path.stem}: {type(error).__name__}: {str(error)[:160]}", flush=True)


def random_widths(network, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Keep a random number of atoms of every group: any integer between `fraction` and all of them."""
    keep = np.ones(network.n_atoms, dtype=bool)
    for group in network.groups:
        atoms = group.stop - group.start
        count = max(1, int(rng.uniform(fraction, 1.0) * atoms))
        dropped = rng.permutation(atoms)[count:]
        keep[group.start + dropped] = False
    return keep


def layers_of(path: Path) -> tuple[LayerGraph, np.ndarray]:
    """Return the layer list and the kept sizes of a case; the ONNX file is not looked at."""
    library, model = path.stem.removesuffix("_pruned_0.6").split("_", 1)
    layers = network_of(f"{library}:{model}").layers
    return layers, layers.sizes(np.load(path.with_suffix(".npy")).astype(float))


def compare(
    cases: list[tuple[str, Path, LayerGraph, np.ndarray]], profile: Profile, options: argparse.Namespace
) -> CheckResult:
    """Predict every case, then time them all interleaved."""
    models = [
        (name, path, NetworkCost(layers, profile).evaluate(sizes)["latency_ms"])
        for name, path, layers, sizes in cases
    ]
    return check_profile(models, profile.name, options.threads, seconds=options.seconds)


def show(done: int, total: int, what: str) -> None:
    print(f"\r{what}: {done}/{total}", end="" if done < total else "\n", flush=True)


def report(result: CheckResult, profile: Profile, options: argparse.Namespace) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = f"host_accuracy-{profile.name}"
    head = (
        f"{time.strftime('%Y-%m-%d %H:%M')}  {cpu_model()} x {os.cpu_count()}, {platform.platform()}\n"
        f"ONNX Runtime {result.runtime}, torch {torch.__version__}, {options.threads} thread(s), "
        f"load average {os.getloadavg()[0]:.1f}\nprofile error as stated: {profile.error.text()}\n"
    )
    text = head + result.table() + "\n"
    (RESULTS / f"{name}.txt").write_text(text)
    (RESULTS / f"{name}.csv").write_text(result.csv())
    (RESULTS / f"{name}.svg").write_text(result.picture())
    print(text)


if __name__ == "__main__":
    main()
