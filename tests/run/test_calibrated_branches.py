"""Whole branches in a calibration: what each is worth without labels, and what makes up for one that goes."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.calibrated_branches import errors_without, patterns_by_error
from dtp_edge.run.output_error import compared
from dtp_edge.run.task import Task
from dtp_edge.run.trials import Trials
from dtp_edge.surgery import compact, refit
from dtp_edge.surgery.quick_fit import QuickFit
from dtp_edge.surgery.reference import Reference, behind

DEVICE = "rpi4-ncnn-fp32-1t"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.b, self.m = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.m(self.b(torch.relu(self.n(self.a(x))))) + x)


class Blocks(nn.Module):
    """Four blocks; what the third adds is next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks, self.last = nn.Sequential(*(Block() for _ in range(4))), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    net, x = Blocks(), torch.randn(128, 3, 8, 8)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None
    with torch.no_grad():
        net.blocks[2].m.weight.mul_(0.01)
        net.blocks[2].m.bias.mul_(0.01)
        net.train()(x)
    return net.eval(), x


def task_of(net: nn.Module, x: Tensor, macs: str) -> tuple[Task, Trials]:
    network = trace_network(copy.deepcopy(net), (x[:1],), depth=True)
    task = Task.of(network, load_profile(DEVICE), dtp.Budget(macs=macs))
    return task, Trials(network, [(part,) for part in x.split(16)], 1e6, 0)


def gate(network: PrunableNetwork, *gone: str) -> np.ndarray:
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[[b.atom for b in network.branches if b.name in gone]] = False
    return keep


def test_a_branch_that_adds_next_to_nothing_is_worth_the_least(trained) -> None:
    task, trials = task_of(*trained, "80%")
    alone = errors_without(task.network, trials)
    names = [b.name for b in task.network.branches]
    assert names == [f"blocks.{i}" for i in range(4)]
    assert int(np.argmin(alone)) == 2
    assert alone[2] < 0.05 * np.delete(alone, 2).min()


def test_greedy_patterns_lose_one_more_each_until_the_budget_holds(trained) -> None:
    task, trials = task_of(*trained, "45%")
    patterns = patterns_by_error(task, trials, errors_without(task.network, trials))
    assert [int(p.sum()) for p in patterns] == [3, 2, 1][: len(patterns)]
    assert patterns[0][2] == 0
    assert all((a >= b).all() for a, b in itertools.pairwise(patterns))
    keep = gate(task.network, *(f"blocks.{i}" for i in np.flatnonzero(patterns[-1] == 0)))
    assert task.check(keep).passed


def test_the_layer_before_a_branch_that_goes_aims_at_the_sum_behind_it(trained) -> None:
    net, _ = trained
    network = trace_network(copy.deepcopy(net), (torch.randn(1, 3, 8, 8),), depth=True)
    nodes = {n.name: n for n in network.graph_module.graph.nodes}
    by_name = {b.name: b for b in network.branches}
    first, second, third = (by_name[f"blocks.{i}"] for i in (1, 2, 3))
    adds = nodes[by_name["blocks.0"].addition]
    assert behind(adds, []).name == adds.name
    assert behind(adds, [second]).name == adds.name
    assert behind(adds, [first]).name == first.addition
    assert behind(adds, [third, first, second]).name == third.addition


def test_one_run_of_the_dense_network_serves_all_cuts(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = trained
    network = trace_network(copy.deepcopy(net), (x[:1],), depth=True)
    first, _, third = network.branches[1:4]
    layers = {f"blocks.{i}.{n}.weight": None for i in range(4) for n in "ab"}
    asked: dict[str, Any] = {"streams": True, "effort": 0.5}
    parts = (network.graph_module, net.state_dict(), layers, {}, 0)
    every = Reference(*parts, branches=network.branches, every=True, **asked)
    every.run([(x,)])
    assert every.sums == {}
    for gone in ((), (first,), (first, third)):
        alone = Reference(*parts, branches=gone, **asked)
        alone.run([(x,)])
        found = every.narrowed({}, gone)
        assert found.sums.keys() == alone.sums.keys() != set()
        for pairs in ((found.sums, alone.sums), (found.outputs, alone.outputs)):
            assert all(torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[1])
    held = sum(4 * t.numel() for some in (every.outputs, every._found) for t in some.values())
    assert held <= every.most_bytes()

    errors = []
    for most in (2**30, 0):
        monkeypatch.setattr("dtp_edge.surgery.quick_fit._BYTES", most)
        fit = QuickFit(network, [(x,)], ridge=0.01)
        assert fit.every == (most > 0)
        cut = compact(network, gate(network, "blocks.1"))
        fit(cut)
        with torch.no_grad():
            errors.append(compared([cut.module(x)], [net(x)])[0])
    assert errors[0] == pytest.approx(errors[1])


def test_a_fit_that_is_taken_up_is_the_whole_one(trained) -> None:
    net, x = trained
    network = trace_network(copy.deepcopy(net), (x[:1],), depth=True)
    alone = gate(network, "blocks.1")
    cuts = [gate(network, "blocks.1", "blocks.3"), alone.copy(), gate(network, "blocks.0"), alone]
    inner = next(g for g in network.groups if g.name.startswith("blocks.3") and g.kind != "branch")
    cuts[1][inner.start] = False
    plain = QuickFit(network, [(x[:32],)], [(x[32:],)], ridge=0.01)
    led = QuickFit(network, [(x[:32],)], [(x[32:],)], ridge=0.01)
    shares = []
    for lead in (np.ones(network.n_atoms, dtype=bool), alone):
        led.lead(compact(network, lead, in_place=False))
        for keep in cuts:
            one, other = (compact(network, keep, in_place=False) for _ in range(2))
            shares.append(led.share(other))
            assert torch.equal(plain(one)[0], led(other)[0])
    assert shares[4] < shares[6] <= 1.0  # the last block alone is another, or the first one is
    assert shares[5] < 0.5
    assert shares[7] < 0.2


def test_the_repair_around_a_branch_halves_the_error(trained) -> None:
    net, x = trained
    network = trace_network(copy.deepcopy(net), (x[:1],), depth=True)
    keep, new = gate(network, "blocks.1"), torch.randn(64, 3, 8, 8)
    errors = []
    for fitted in (False, True):
        cut = compact(network, keep)
        if fitted:
            rows = refit(network, cut, net.state_dict(), [(x,)], ridge=0.01, streams=True)
            assert any(r.reason is None for r in rows)
        with torch.no_grad():
            errors.append(compared([cut.module(new)], [net(new)])[0])
    assert errors[1] < 0.5 * errors[0]


def test_trials_are_counted_and_remembered(trained) -> None:
    task, trials = task_of(*trained, "80%")
    left, keep = trials.left, gate(task.network, "blocks.1")
    assert trials(keep) == trials(keep)
    assert trials.left == left - 1
    worse = gate(task.network, "blocks.0", "blocks.1")
    assert trials.best([worse, keep]) is keep
    trials.lead(keep)  # a whole fit, and then what lies behind the block that goes
    assert trials.left == left - 3
    trials(gate(task.network, "blocks.1", "blocks.3"))
    assert left - 3.6 < trials.left < left - 3


def test_trials_judge_on_samples_that_were_not_fitted(trained) -> None:
    net, x = trained
    network = trace_network(copy.deepcopy(net), (x[:1],), depth=True)
    for batches in ([(x,)], [(part,) for part in x.split(48)]):
        trials = Trials(network, batches, 1e6, 0)
        both = [torch.cat([part for (part,) in some]) for some in (trials.fitted, trials.judges)]
        assert torch.equal(torch.cat(both), x)
        assert len(both[0]) == len(both[1]) == 64


def run(net: nn.Module, x: Tensor, **options: Any) -> dtp.PruneResult:
    batches = list(x.split(16))
    return dtp.prune_for_device(net, x[:1], device=DEVICE, calibrate=batches, **options)


def test_a_run_drops_it_and_says_what_each_is_worth(trained, tmp_path) -> None:
    net, x = trained
    result = run(net, x, budget=dtp.Budget(latency="75%"), out=tmp_path / "r")
    rows = {row["name"]: row for row in result.report["depth"]["branches"]}
    assert rows["blocks.2"]["gone"]
    assert rows["blocks.2"]["loss_rise"] < min(rows[f"blocks.{i}"]["loss_rise"] for i in (0, 1, 3))
    new = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        made = result.module(new)
        torch.testing.assert_close(result.masked(new), made, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(dtp.load_pruned(result.out)(new), made, rtol=1e-4, atol=1e-5)


def test_no_depth_keeps_every_block(trained) -> None:
    net, x = trained
    result = run(net, x, budget=dtp.Budget(latency="75%"), depth=False)
    assert "depth" not in result.report


def test_where_there_is_no_time_to_try_them_all_branches_stay(
    trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtp_edge.run.trials.WORK", 5e7)
    net, x = trained
    result = run(net, x, budget=dtp.Budget(macs="80%"))
    assert not any(row["gone"] for row in result.report["depth"]["branches"])
    assert any("too large to try it without each of its 4 branches" in text for text in result.warnings)
