"""How right is the profile of this machine? Held-out networks, dense and pruned to odd widths.

    python -m benchmarks.host_accuracy [--threads 1] [--models FOLDER] [--run RUN.json] [--save PROFILE.json]

Measures the machine and, between the probes, calls networks that no fit sees, torchvision's, timm's and small
built-in ones: both are timed in the same minutes, by the same rule (two untimed calls, then timed ones; of
those the quiet part; to the median speed of the reference kernel). Then predicts the networks from the
profile. Also adds up each network's measured kernels (profiler, less what the profiler adds) and compares the
sum with its latency. Writes benchmarks/results/host_accuracy-*.{csv,svg,txt}. Needs torchvision and timm.
`--run` keeps what was measured; where that file exists already, its networks are only predicted.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.experiment import RESULTS
from benchmarks.common.origin import in_words, origin
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.table import FLOOR_US
from dtp_edge.graph import trace_network
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.digest import calibrate, digest
from dtp_edge.measure.machine import machine_facts
from dtp_edge.measure.node_times import NetworkTimes, NodeTime, network_times, quiet_mean
from dtp_edge.measure.procedure import Effort, collect, profile_document
from dtp_edge.measure.profile_check import CheckedNetwork, CheckResult
from dtp_edge.measure.timing import WARM, bind, make_session, random_feed, relative_spread
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles.profile import Profile, parse_profile, save_profile
from dtp_edge.surgery import compact
from dtp_edge.zoo import resolve_model

HOST = EXPERIMENTS["host_accuracy"]
TORCHVISION = [
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0", "regnet_y_400mf"),
    *("regnet_x_400mf", "densenet121", "googlenet", "vgg11_bn"),
]
TIMM = [
    *("mobilenetv3_small_100", "efficientnet_lite0", "ghostnet_100", "hardcorenas_a"),
    *("fbnetc_100", "tf_efficientnetv2_b0", "resnet26d", "repvgg_a0", "mixnet_s"),
    *("semnasnet_100", "rexnet_100", "lcnet_050", "tinynet_e", "vit_tiny_patch16_224"),
    *("mobileone_s0", "dla46_c", "regnetx_002", "regnety_004"),
]
ZOO = ["resnet8", "dscnn", "resnet20", "mobilenetv2", "vgg19"]  # for 32 x 32 pixels, spectrograms
SMALL_MS = 0.2  # networks below this are told apart
PRUNED = 3  # every third network is also pruned
NODES_EVERY = 3  # of every third network, the kernels are timed too
Case = tuple[str, LayerGraph, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--probes", type=int, default=400)
    parser.add_argument("--visits", type=int, default=3, help="rounds of calls of each probe")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--models", default="", help="folder that keeps the exported networks")
    parser.add_argument("--prepare", action="store_true", help="only export the networks")
    parser.add_argument("--run", default="", help="JSON file that keeps what was measured")
    parser.add_argument("--measure-only", action="store_true", help="only measure, into --run")
    parser.add_argument("--name", default="host", help="name of the profile")
    parser.add_argument("--machine", default="this machine", help="what the profile calls the machine")
    parser.add_argument("--save", help="write the measured profile here")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.models or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        cases = prepare(folder, options.only)
        if options.prepare:
            return
        kept = Path(options.run) if options.run else Path(scratch) / "run.json"
        if not kept.exists():
            kept.write_text(json.dumps(measure([case for case in cases if case[1].exists()], options)))
        if options.measure_only:
            return
        run = json.loads(kept.read_text())
        known = [(name, *layers_of(folder / file)) for name, file in run["networks"]]
    document = document_of(run)
    profile = parse_profile(document)
    if options.save:
        save_profile(document, options.save)
    report(compare(known, profile, run), profile, run)


def measure(cases: list[tuple[str, Path]], options: argparse.Namespace) -> dict[str, Any]:
    """Time probes and networks in the same minutes; return all that was measured, as plain JSON."""
    held_out = HeldOut([str(path) for _, path in cases], options.threads)
    effort = Effort(options.probes, batch=40, visits=options.visits, runs=3)
    command = f"python -m benchmarks.host_accuracy --name {options.name} --threads {options.threads}"
    started = time.perf_counter()
    times, reference = collect(options.threads, effort, show, beside=held_out.visit)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": time.perf_counter() - started,
        "load": os.getloadavg()[0],
        "command": f"{command} --probes {options.probes} --visits {options.visits} --save FILE",
        "name": f"{options.name}-onnxruntime-fp32-{options.threads}t",
        "threads": options.threads,
        "facts": machine_facts() | {"name": options.machine},
        "reference_ms": reference,
        "probes": [asdict(probe) for probe in times],
        "sums": held_out.node_sums(times).tolist(),
        "networks": [(name, path.name) for name, path in cases],
        "us": [samples.tolist() for samples in held_out.latencies(reference, effort)],
    }


def document_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return the profile that a run gives: as `profile measure` makes it."""
    times = [
        NetworkTimes(tuple(NodeTime(**node) for node in probe["nodes"]), probe["latency_us"], probe["spread"])
        for probe in run["probes"]
    ]
    measured = digest(times, run["reference_ms"])
    document = profile_document(measured, run["facts"], run["threads"], run["name"], run["date"].split()[0])
    document["provenance"]["recipe"] = run["command"]
    return document


class HeldOut:
    """Networks called in turns between the probes: `visit` calls the next one."""

    def __init__(self, paths: list[str], threads: int) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._free, self._watched, self._sessions = [], {}, {}
        for index, path in enumerate(paths):
            session = make_session(path, threads)
            feed = random_feed(session)
            self._free.append(bind(session, feed))
            if index % NODES_EVERY == 0:
                prefix = f"{self._scratch.name}/{index}"
                self._sessions[index] = make_session(path, threads, profile_prefix=prefix)
                self._watched[index] = bind(self._sessions[index], feed)
        self.calls: list[list[tuple[int, float]]] = [[] for _ in paths]  # (visit of a probe, us)
        self._visits = 0

    def visit(self) -> None:
        index = self._visits % len(self.calls)
        run, calls = self._free[index], self.calls[index]
        for _ in range(WARM):
            run()
        start = time.perf_counter()
        run()
        calls.append((self._visits, 1e6 * (time.perf_counter() - start)))
        if index in self._watched:
            for _ in range(WARM + 1):
                self._watched[index]()
        self._visits += 1

    def latencies(self, reference: list[float], effort: Effort) -> list[np.ndarray]:
        """Return each network's samples in microseconds, to the median speed of the reference."""
        slow = np.array(reference) / np.median(reference)
        per_batch = effort.batch * effort.visits
        last = len(slow) - 1
        return [
            np.array([us / slow[min(visit // per_batch * effort.batch, last)] for visit, us in calls])
            for calls in self.calls
        ]

    def node_sums(self, times: list[NetworkTimes]) -> np.ndarray:
        """Return, for every third network, the sum of its kernels' times over its latency; what the
        profiler adds to a kernel is that of the probes."""
        total = np.array([sum(n.us for n in t.nodes) for t in times])
        count = np.array([len(t.nodes) for t in times], dtype=float)
        per_node, call_us = calibrate(total, count, np.array([t.latency_us for t in times]))
        ratios = []
        for index, session in self._sessions.items():
            found = network_times(session, np.array([us for _, us in self.calls[index]]), runs=1)
            kernels = sum(max(n.us + per_node, FLOOR_US) for n in found.nodes)
            ratios.append((kernels + call_us) / found.latency_us)
        return np.array(ratios)


def prepare(folder: Path, only: str) -> list[tuple[str, Path]]:
    """Export every network, dense and (some) pruned to odd widths."""
    cases = []
    suites = {"torchvision": TORCHVISION, "timm": TIMM, "zoo": ZOO}
    names = [f"{suite}:{name}" for suite, found in suites.items() for name in found]
    for place, name in enumerate(n for n in names if only in n):
        for fraction in (None, *((0.6,) if place % PRUNED == 0 else ())):
            label = name if fraction is None else f"{name} pruned {fraction}"
            path = folder / (label.replace(":", "_").replace(" ", "_") + ".onnx")
            if not path.exists():
                build(name, fraction, path)
            cases.append((label, path))
    return cases


def network_of(name: str, seed: int = 0):
    """Return the traced network of torchvision:NAME, timm:NAME or zoo:NAME with random weights."""
    torch.manual_seed(seed)
    library, model = name.split(":")
    if library == "zoo":
        module, example, _ = resolve_model(model)
        return trace_network(module, example)
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


def compare(cases: list[Case], profile: Profile, run: dict[str, Any]) -> CheckResult:
    """Predict every network and set it beside what was measured."""
    rows = [
        CheckedNetwork(
            name,
            NetworkCost(layers, profile).evaluate(sizes)["latency_ms"],
            float(quiet_mean(np.array(us))) / 1e3,
            float(np.median(us)) / 1e3,
            relative_spread(np.array(us)),
        )
        for (name, layers, sizes), us in zip(cases, run["us"], strict=True)
    ]
    reference = np.array(run["reference_ms"])
    quiet = float((reference < 1.1 * reference.min()).mean())
    return CheckResult(profile.name, tuple(rows), float(np.median(reference)), quiet, profile.runtime.version)


def show(done: int, total: int, what: str) -> None:
    print(f"\r{what}: {done}/{total}", end="" if done < total else "\n", flush=True)


def report(result: CheckResult, profile: Profile, run: dict[str, Any]) -> None:
    name = f"host_accuracy-{profile.name}"
    sums = np.array(run["sums"])
    off = np.abs(sums - 1.0)
    small = [abs(row.ratio - 1.0) for row in result.rows if row.latency_ms < SMALL_MS]
    below = f"networks under {SMALL_MS} ms: {len(small)}, worst {max(small, default=0.0):.1%}\n"
    text = (
        f"{run['date']}  {in_words(origin(HOST.packages))} x {os.cpu_count()}, {platform.platform()}\n"
        f"ONNX Runtime {result.runtime}, torch {torch.__version__}, {run['threads']} thread(s), "
        f"load average {run['load']:.1f}; measured in {run['seconds']:.0f} s by\n    {run['command']}\n"
        f"profile error as stated: {profile.error.text()}\n{result.table()}\n"
        f"{below}"
        f"sum of a network's measured kernels over its latency, {len(sums)} networks: median "
        f"{np.median(sums):.3f}; off by {np.median(off):.1%} in the median, at most {off.max():.1%}\n"
    )
    (RESULTS / f"{name}.txt").write_text(text)
    HOST.table(csv.DictReader(result.csv().splitlines()), RESULTS / f"{name}.csv")
    (RESULTS / f"{name}.svg").write_text(result.picture())
    print(text)


if __name__ == "__main__":
    main()
