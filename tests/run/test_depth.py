"""Branches in whole runs: with data by default, one-shot when asked, own loop, resume, plan, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import BudgetError, Interrupted
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.run.feasibility import feasibility
from dtp_edge.run.options import NOBODY, Listener, Options
from dtp_edge.run.pipeline import prune
from dtp_edge.run.training_steps import CUTS, LEAST_SAMPLES, SCORE_SAMPLES, SCORE_SHARE, scoring_samples
from dtp_edge.training import Recipe, load_data

DEVICE = "rpi4-ncnn-fp32-1t"


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Residual(nn.Module):
    """Three blocks on one stream: `[B, 1, 8, 8] -> [B, 10]`."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(8) for _ in range(blocks)))
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(self.stem(x).relu()).mean((2, 3)))


def network(blocks: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model = Residual(blocks)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "bn" in name and tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return model


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"batch_size": 64, "base_epochs": 1, "mask_epochs": 1, "tune_epochs": 1} | changes))


def run(out: Path | None, listener: Listener = NOBODY, **changes: Any) -> dtp.PruneResult:
    chosen = {"budget": dtp.Budget(latency="45%"), "device": DEVICE, "recipe": recipe(), "out": out}
    chosen |= {"data": load_data("digits", image_size=8), "measure": False} | changes
    return prune(network(), torch.zeros(1, 1, 8, 8), Options(**chosen), listener)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dtp.PruneResult:
    return run(tmp_path_factory.mktemp("depth") / "run")


def test_scoring_takes_a_bounded_share_of_the_training() -> None:
    deep, plain = trace(network(12)), trace(network(), depth=False)
    long, short = recipe(mask_epochs=40), recipe()
    assert scoring_samples(plain, 1000, short) == SCORE_SAMPLES  # no branch, no search: as ever
    assert scoring_samples(deep, 1000, long) == SCORE_SAMPLES
    samples = scoring_samples(deep, 5000, short)
    assert LEAST_SAMPLES < samples < SCORE_SAMPLES
    forwards = samples * (len(deep.groups) + 12 * 13 / 2 + 4 * CUTS)  # greedily out; cuts fitted, measured
    assert forwards <= SCORE_SHARE * 3 * 5000 * 2 < forwards * 1.05
    assert scoring_samples(deep, 100, short) == LEAST_SAMPLES


def trace(model: nn.Module, depth: bool = True) -> PrunableNetwork:
    return trace_network(model, (torch.zeros(1, 1, 8, 8),), depth=depth)


def test_with_data_branches_go_and_all_proofs_hold(finished: dtp.PruneResult) -> None:
    branches = finished.report["depth"]["branches"]
    gone = [b["name"] for b in branches if b["gone"]]
    assert {b["name"] for b in branches} == {"blocks.0", "blocks.1", "blocks.2"}
    assert gone
    assert all(c["passed"] for c in finished.report["checks"])
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        expected, found = finished.masked.eval()(x), finished.module.eval()(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(dtp.load_pruned(finished.out)(x), found, rtol=1e-4, atol=1e-5)
    names = dict(finished.module.named_parameters())
    assert not [n for n in names if any(n.startswith(f"{block}.") for block in gone)]
    row = next(r for r in finished.report["budgets"] if r["metric"] == "latency_ms")
    assert row["pruned_predicted"] <= row["limit"]


def test_report_and_page_know_them(finished: dtp.PruneResult) -> None:
    report = finished.report
    gone = {b["name"] for b in report["depth"]["branches"] if b["gone"]}
    layers = [row for row in report["layers"] if row["branch"] in gone]
    assert layers
    assert all(row["pruned_latency_ms"] == 0 for row in layers)
    assert not [g for g in report["groups"] if g["kind"] == "branch"]
    assert all(b["loss_rise"] is not None for b in report["depth"]["branches"])
    for branch in report["depth"]["branches"]:
        assert branch["saves_latency_ms"] > 0
        assert branch["saves_params"] == sum(p.numel() for p in Block(8).parameters())
    assert finished.out is not None
    page = (finished.out / "report.html").read_text()
    assert f"{len(gone)} of 3 branches went" in page


def test_without_depth_nothing_changes_but_for_branches(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", depth=False, budget=dtp.Budget(macs="50%"))
    assert "depth" not in plain.report
    assert all(kept > 0 for kept, _ in plain.widths.values())
    assert not [name for name in plain.widths if name.endswith("branch")]


def test_killed_and_resumed_is_the_same_run(finished: dtp.PruneResult, tmp_path: Path) -> None:
    for phase, at in (("masks", 9), ("fine-tune", 4)):
        out = tmp_path / phase

        def stop(name: str, done: int, *_: Any, phase: str = phase, at: int = at) -> None:
            if name == phase and done == at:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted):
            run(out, Listener(stop))
        again = run(out, resume=True)
        assert again.widths == finished.widths
        state, want = again.module.state_dict(), finished.module.state_dict()
        assert all(torch.equal(state[name], value) for name, value in want.items())


def test_block_outputs_are_distilled_where_branches_may_go() -> None:
    x, options = torch.zeros(1, 1, 8, 8), Options(budget=dtp.Budget(macs="50%"))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    traced = {
        "branches": trace_network(network(), (x,), depth=True),
        "kept": trace_network(network(), (x,)),
        "none": trace_network(plain, (x,), depth=True),
    }
    weights = {name: options.schedule(one).block_distill for name, one in traced.items()}
    assert weights == {"branches": 2.0, "kept": 0.0, "none": 0.0}
    own = Options(budget=dtp.Budget(macs="50%"), recipe=recipe(block_distill=0.5))
    assert own.schedule(traced["kept"]).block_distill == 0.5


def test_one_shot_drops_none_unless_asked() -> None:
    budget = dtp.Budget(macs="50%")
    x = torch.zeros(1, 1, 8, 8)
    plain = dtp.prune_for_device(network(), x, device=DEVICE, budget=budget)
    assert "depth" not in plain.report
    asked = dtp.prune_for_device(network(), x, device=DEVICE, budget=budget, depth=True)
    assert len(asked.report["depth"]["branches"]) == 3
    assert all(c["passed"] for c in asked.report["checks"])


def test_depth_makes_smaller_networks_reachable() -> None:
    x, budget = torch.zeros(1, 1, 8, 8), dtp.Budget(latency="30%")
    (narrow,) = feasibility(network(), x, [DEVICE], budget)
    (deep,) = feasibility(network(), x, [DEVICE], budget, depth=True)
    smallest = [
        next(r["smallest"] for r in entry["rows"] if r["metric"] == "latency_ms") for entry in (narrow, deep)
    ]
    assert smallest[1] < 0.6 * smallest[0]
    limit = dtp.Budget(latency=(smallest[0] + smallest[1]) / 2)
    with pytest.raises(BudgetError):
        dtp.prune_for_device(network(), x, device=DEVICE, budget=limit)
    found = dtp.prune_for_device(network(), x, device=DEVICE, budget=limit, depth=True)
    assert any(b["gone"] for b in found.report["depth"]["branches"])


def test_own_loop_with_batches() -> None:
    data = load_data("digits", image_size=8)
    batches = [b for b, _ in zip(data.train.ordered(64), range(4), strict=False)]
    pruner = dtp.TransportPruner(
        network(), torch.zeros(1, 1, 8, 8), device=DEVICE, budget=dtp.Budget(latency="45%"),
        total_steps=10, batches=batches,
    )  # fmt: skip
    gates = [b.atom for b in pruner.network.branches]
    assert len(gates) == 3
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.02)
    moved = []
    for i in range(10):
        x, y = batches[i % 4]
        nn.functional.cross_entropy(pruner(x), y).backward()
        if not pruner.is_hard:
            moved.append(float(pruner.scores.grad[gates].abs().sum()))
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        assert pruner.meter.costs(pruner.mask().detach().double().numpy())["latency_ms"] <= max(
            pruner.limits_now()["latency_ms"], pruner.limits["latency_ms"]
        ) * (1 + 1e-3)
    assert moved[0] > 0
    result = pruner.finish()
    assert len(result.report["depth"]["branches"]) == 3
    assert all(c["passed"] for c in result.report["checks"])


def test_excluded_blocks_stay(tmp_path: Path) -> None:
    found = run(None, exclude=("blocks.0", "blocks.2.conv1"), budget=dtp.Budget(macs="70%"))
    names = {b["name"]: b["gone"] for b in found.report["depth"]["branches"]}
    assert set(names) == {"blocks.1"}
    assert {r["code"] for r in found.report["depth"]["refused"]} == {"excluded"}


def test_a_network_without_branches_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    )  # fmt: skip
    budget, x = dtp.Budget(macs="60%"), torch.zeros(1, 1, 8, 8)
    both = [
        dtp.prune_for_device(model, x, device=DEVICE, budget=budget, depth=depth, out=tmp_path / str(depth))
        for depth in (True, False)
    ]
    assert both[0].report["depth"] == {"branches": [], "refused": []}
    assert "No branches" in (tmp_path / "True" / "report.html").read_text()
    assert both[0].widths == both[1].widths
    files = [(tmp_path / str(depth) / "model.onnx").read_bytes() for depth in (True, False)]
    assert files[0] == files[1]


def test_widths_json_and_plan_are_plain(finished: dtp.PruneResult) -> None:
    assert finished.out is not None
    stored = json.loads((finished.out / "report.json").read_text())
    assert stored["depth"] == finished.report["depth"]
    assert np.isfinite([b["saves_macs"] for b in stored["depth"]["branches"]]).all()
