"""How much of a latency budget the hardened widths use: networks x shipped devices x 30, 50, 70 %.

    python -m benchmarks.budget_precision [--networks resnet20 torchvision:resnet18 ...] [--devices NAME ...]
    python -m benchmarks.budget_precision --depth --networks resnet20      # whole branches may go too

`used` must never be above 1, and must be 0.98 or more wherever one step of channels costs less than 2 % of
the budget (`step`: the cheapest addition that is left, as a share of the budget; it did not fit).
Scores are those of freshly drawn weights: precision is a matter of the widths' grid, not of training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.experiment import Row
from benchmarks.experiments import EXPERIMENTS
from dtp_edge import zoo
from dtp_edge.cost import NetworkCost
from dtp_edge.errors import BudgetError, DtpEdgeError
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles
from dtp_edge.transport import Budget, harden, initial_scores
from dtp_edge.transport.smallest import steps_of

SHARES = ("30%", "50%", "70%")
COLUMNS: list[str] = [
    "network",
    "device",
    "latency",
    "budget_ms",
    "used",
    "step",
    "seconds",
    "verdict",
    "smallest_share",
]
PRECISION = EXPERIMENTS["budget_precision"]
NETWORKS = (
    "resnet20",
    "dscnn",
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "torchvision:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0",
    "timm:vit_tiny_patch16_224",
)


def next_step(network: PrunableNetwork, cost: NetworkCost, keep: np.ndarray, limit: float) -> float:
    """Cheapest way to add channels somewhere (one, or up to a whole device step), as a share of the limit."""
    here = cost.evaluate(network.layers.sizes(keep.astype(float)))["latency_ms"]
    cheapest = np.inf
    for group, step in zip(network.groups, steps_of(network, cost), strict=True):
        dropped = np.flatnonzero(~keep[group.start : group.stop]) + group.start
        kept = group.stop - group.start - len(dropped)
        if not kept:
            continue  # a branch that went, or what lies in it
        for count in {1, int(step - kept % step), len(dropped)}:
            if 0 < count <= len(dropped):
                more = keep.astype(float)
                more[dropped[:count]] = 1
                added = cost.evaluate(network.layers.sizes(more))["latency_ms"] - here
                cheapest = min(cheapest, max(added, 0.0))
    return cheapest / limit


def row(
    network: PrunableNetwork, scores: np.ndarray, name: str, device: str, share: str
) -> dict[str, object]:
    cost = NetworkCost(network.layers, load_profile(device))
    limits = Budget(latency=share).limits(cost.evaluate(network.layers.sizes(np.ones(network.n_atoms))))
    limit = limits["latency_ms"]
    found: dict[str, object] = {"network": name, "device": device, "latency": share, "budget_ms": limit}
    began = time.perf_counter()
    try:
        keep = harden(scores, network, cost, limits)
    except BudgetError as error:
        smallest = next(float(str(r["smallest"])) for r in error.rows if r["metric"] == "latency_ms")
        return {**found, "verdict": "refused", "smallest_share": smallest / limit}
    seconds = time.perf_counter() - began
    used = cost.evaluate(network.layers.sizes(keep.astype(float)))["latency_ms"] / limit
    step = next_step(network, cost, keep, limit)
    good = used <= 1 and (used >= 0.98 or step >= 0.02)
    verdict = ("ok" if step < 0.02 else "ok, coarse") if good else "MISSED"
    return {**found, "used": used, "step": step, "seconds": seconds, "verdict": verdict}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--devices", nargs="*", default=None)
    parser.add_argument("--depth", action="store_true", help="whole branches may go too")
    parser.add_argument("--out", type=Path, default=PRECISION.path)
    options = parser.parse_args()
    for name in options.networks:
        rows = measure(name, options.devices or list_profiles(), options.depth)
        PRECISION.merge(rows, options.out)
    print("\n".join(summary(PRECISION.read(options.out))))


def measure(name: str, devices: list[str], depth: bool) -> list[Row]:
    """One network on all devices; a device that refuses it is a row with the reason."""
    torch.manual_seed(0)
    module, inputs, _ = zoo.resolve_model(name)
    network = trace_network(module.eval(), inputs, depth=depth)
    name = f"{name}, branches" if depth else name
    scores = initial_scores(network)
    rows: list[Row] = []
    for device in devices:
        try:
            rows += [row(network, scores, name, device, share) for share in SHARES]
        except DtpEdgeError as error:
            same: Row = {"network": name, "device": device, "verdict": f"no cost: {error.what}"}
            rows += [same | {"latency": share} for share in SHARES]
    for r in rows:
        used = f"{r['used']:.4f} step {r['step']:.4f}" if "used" in r else ""
        print(f"{name:28} {r['device']:34} {r['latency']:4} {used} {r['verdict']}", flush=True)
    return rows


def whole_page() -> str:
    """The page of the committed rows."""
    return "\n".join(summary(PRECISION.read())) + "\n"


def summary(rows: list[Row]) -> list[str]:
    """What the table says about the claim, network by network and in all."""
    lines = []
    for name in [*dict.fromkeys(r["network"] for r in rows), ""]:
        part = [r for r in rows if name in ("", r["network"])]
        tried = [r for r in part if r["used"]]
        fine = [r for r in tried if float(r["step"]) < 0.02]
        over = sum(float(r["used"]) > 1 for r in tried)
        low = sum(float(r["used"]) < 0.98 for r in fine)
        least = min((float(r["used"]) for r in fine), default=1.0)
        refused = sum(r["verdict"].startswith("refused") for r in part)
        slowest = max((float(r["seconds"]) for r in tried), default=0.0)
        lines.append(
            f"{name or 'all':28} {len(part):4} cases, {refused:3} refused as infeasible, "
            f"{len(part) - refused - len(tried):2} without cost; over: {over}; {len(fine)} with a step "
            f"below 2 %, of these below 98 % used: {low} (least {least:.4f}); slowest plan {slowest:.2f} s"
        )
    return lines


if __name__ == "__main__":
    main()
