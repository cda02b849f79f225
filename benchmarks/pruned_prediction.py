"""Are widths that were chosen on this machine's profile as fast as it says? Seven networks, three budgets.

    python -m benchmarks.pruned_prediction [--profile host] [--models FOLDER] [--seconds 60]
    python -m benchmarks.pruned_prediction --depth ...      the same where whole branches went

Prunes every network in one shot (weight norms, random weights) to 70, 50 and 35 % of its predicted latency,
exports dense and pruned, and times all of them in ONNX Runtime, interleaved with the reference kernel,
which tells how fast the machine is now against the minutes when the profile was measured. With `--depth`
(five networks, five budgets) the cut is the middle one, by branches gone, of those that the search over
branches and widths tries and that lack at least one. Writes depth_prediction.{csv,svg,txt} in
benchmarks/results, or pruned_prediction. Needs torchvision and timm.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.experiment import RESULTS
from benchmarks.common.origin import in_words, origin
from benchmarks.experiments import EXPERIMENTS
from dtp_edge import zoo
from dtp_edge.cost import NetworkCost
from dtp_edge.errors import BudgetError
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.measure.profile_check import CheckResult, check_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles.profile import Profile
from dtp_edge.surgery import compact
from dtp_edge.transport import Budget, initial_scores
from dtp_edge.transport.harden import choices

NETWORKS = (
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_large",
    "torchvision:regnet_x_400mf",
    "torchvision:squeezenet1_1",
    "timm:efficientnet_lite0",
    "timm:resnet26d",
)
WITH_BRANCHES = ("resnet8", "resnet20", "resnet56", "mobilenetv2", "torchvision:resnet18")
EVALUATIONS = 300  # of a search where branches go: the widths need not be the best ones here
BUDGETS = ("70%", "50%", "35%")
MORE_BUDGETS = ("80%", "65%", *BUDGETS)  # where branches go


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="host")
    parser.add_argument("--depth", action="store_true", help="whole branches go, too")
    parser.add_argument("--models", default="", help="folder that keeps the exported networks")
    parser.add_argument("--prepare", action="store_true", help="only prune and export")
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long to time")
    parser.add_argument("--only", default="", help="networks whose name contains one of these, by commas")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    profile = load_profile(options.profile)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.models or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        known = WITH_BRANCHES if options.depth else NETWORKS
        names = [name for name in known if any(part in name for part in options.only.split(","))]
        cases = [case for name in names for case in pruned(name, profile, folder, options.depth)]
        if options.prepare:
            return
        result = check_profile(
            cases,
            profile.name,
            profile.threads,
            seconds=options.seconds,
            reference_ms=profile.provenance.reference_ms,
        )
    report(result, profile, "depth_prediction" if options.depth else "pruned_prediction")


def pruned(name: str, profile: Profile, folder: Path, depth: bool = False) -> list[tuple[str, Path, float]]:
    """Return (label, ONNX file, predicted ms) of a network, dense and at every budget that it can reach;
    what `folder` already holds for this profile is taken from there."""
    stem = name.replace(":", "_") + (".depth" if depth else "")
    index = folder / f"{stem}.{profile.name}.json"
    if index.exists():
        return [(label, folder / file, ms) for label, file, ms in json.loads(index.read_text())]
    torch.manual_seed(0)
    module, inputs, _ = zoo.resolve_model(name)
    network = trace_network(module.eval(), inputs, depth=depth)
    scores, cost = initial_scores(network), NetworkCost(network.layers, profile)
    dense = cost.evaluate(cost.dense_sizes())
    found: list[tuple[str, Path, float]] = []
    for budget in (None, *(MORE_BUDGETS if depth else BUDGETS)):
        keep = np.ones(network.n_atoms, dtype=bool)
        if budget is not None:
            try:
                limits = Budget(latency=budget).limits(dense)
                most = {"max_evaluations": EVALUATIONS} if depth else {}
                found_cuts = choices(scores, network, cost, limits, **most)
            except BudgetError as error:
                print(f"{name} {budget}: {error.what}", flush=True)
                continue
            keep = middle(network, found_cuts) if depth else found_cuts[0]
        path = folder / f"{stem}_{(budget or 'dense').rstrip('%')}.onnx"
        chosen = compact(network, keep, in_place=False).module if budget else network.module
        export_onnx(chosen, network.example_inputs, path)
        ms = cost.evaluate(network.layers.sizes(keep.astype(float)))["latency_ms"]
        found.append((f"{name} {budget or 'dense'}", path, ms))
        gone = sum(not keep[branch.atom] for branch in network.branches)
        print(f"{name} {budget or 'dense'}: {ms:.3f} ms predicted, {gone} branches gone", flush=True)
    index.write_text(json.dumps([(label, path.name, ms) for label, path, ms in found]))
    return found


def middle(network: PrunableNetwork, found: list[np.ndarray]) -> np.ndarray:
    """Of the cuts that lack a branch the middle one, by how many are gone; the first where none lacks any."""
    gone = [sum(not keep[branch.atom] for branch in network.branches) for keep in found]
    order = sorted((i for i, count in enumerate(gone) if count), key=lambda i: gone[i])
    return found[order[len(order) // 2]] if order else found[0]


def report(result: CheckResult, profile: Profile, name: str) -> None:
    experiment = EXPERIMENTS[name]
    ratios = {
        kind: np.array([1.0 / r.ratio for r in result.rows if r.name.endswith("dense") == kind])
        for kind in (True, False)
    }
    text = (
        f"{time.strftime('%H:%M')}  {in_words(origin(experiment.packages))}, {platform.platform()}\n"
        f"ONNX Runtime {result.runtime}, torch {torch.__version__}, {profile.threads} thread(s); profile "
        f"{profile.name} of {profile.provenance.date}\n{result.table()}\n"
    )
    for kind, label in ((False, "pruned"), (True, "dense")):
        r = ratios[kind]
        text += (
            f"{label}: measured / predicted of {len(r)} networks: median {np.median(r):.3f}, quartiles "
            f"{np.quantile(r, 0.25):.3f} and {np.quantile(r, 0.75):.3f}, {r.min():.3f} to {r.max():.3f}\n"
        )
        off = 100 * np.median(np.abs(1 / r - 1))
        text += f"{label}: predicted is off by {off:.1f} % in the median of {len(r)}\n"
    (RESULTS / f"{name}.txt").write_text(text)
    experiment.table(csv.DictReader(result.csv().splitlines()))
    (RESULTS / f"{name}.svg").write_text(result.picture())
    print(text)


if __name__ == "__main__":
    main()
