"""Graphs that train: whatever switches the mode, batch norms and dropouts follow it, as a module's do."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_training import SmallNet, small_data, small_recipe
from torch import nn

from dtp_edge.graph import MaskedNetwork, mode_of, trace_network
from dtp_edge.graph.masking import masked_forward
from dtp_edge.surgery import Compact, compact
from dtp_edge.surgery.compact_graph import CompactGraph
from dtp_edge.training import Recipe, evaluate, fine_tune, open_session, recalibrate


def half(dropout: float = 0.1) -> Compact:
    """A trained-looking `SmallNet` without every second channel."""
    torch.manual_seed(0)
    model = SmallNet(dropout)
    for norm in (model.bn1, model.bn2, model.bn3):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    network = trace_network(model, (torch.zeros(1, 1, 8, 8),))
    keep = np.ones(network.n_atoms, dtype=bool)
    for group in network.groups:
        keep[group.start + 1 : group.stop : 2] = False
    result = compact(network, keep)
    assert result.kind == "module"
    return result


Trace = list[dict[str, Any]]


def tuned(module: nn.Module, recipe: Recipe, folder: Path | None = None, stop_at: int = 0) -> Trace:
    """Fine-tune over the recipe's epochs; the loss and all running statistics after every step."""
    found: Trace = []

    def note(phase: str, done: int, total: int, info: Any) -> None:
        state = {n: b.clone() for n, b in module.state_dict().items() if "running" in n}
        found.append({"loss": info["loss"], "holdout": info.get("holdout_accuracy"), **state})
        if done == stop_at:
            raise RuntimeError("stop")

    session = open_session(
        small_data(), recipe, progress=note, checkpoint_dir=folder, resume=True, checkpoint_seconds=0.0
    )
    recalibrate(module, session.data, 2, 64)
    fine_tune(module, session, None)
    return found


def assert_same(one: Trace, other: Trace) -> None:
    assert len(one) == len(other) > 40
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a["holdout"] == pytest.approx(b["holdout"], abs=0.01), step
        for name in a.keys() & b.keys() - {"holdout"}:
            torch.testing.assert_close(
                torch.as_tensor(a[name]),
                torch.as_tensor(b[name]),
                rtol=1e-3,
                atol=1e-4,
                msg=f"{name}, {step}",
            )


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"accumulate": 2}], ids=str)
def test_a_graph_learns_step_by_step_what_the_module_cut_in_place_learns(changes: dict[str, Any]) -> None:
    """Three epochs; scoring the hold-out in evaluation, before and between them, may leave no trace."""
    recipe = small_recipe(**{"tune_epochs": 3, "ema": 0.0} | changes)
    result = half()
    module, graph = copy.deepcopy(result.module), copy.deepcopy(result.graph_module)
    assert isinstance(graph, CompactGraph)
    own, traced = tuned(module, recipe), tuned(graph, recipe)
    assert_same(own, traced)
    means = [row["bn1.running_mean"] for row in traced]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(means))


def test_a_graph_goes_on_from_a_checkpoint_as_the_module_does(tmp_path: Path) -> None:
    recipe = small_recipe(tune_epochs=3, ema=0.0)
    result = half()
    module, graph = copy.deepcopy(result.module), copy.deepcopy(result.graph_module)
    own = tuned(module, recipe)
    stop = len(own) // 2
    with pytest.raises(RuntimeError, match="stop"):
        tuned(copy.deepcopy(graph), recipe, tmp_path, stop)
    rest = tuned(graph, recipe, tmp_path)
    assert len(rest) < len(own) - stop + 3  # it did go on, and did not start anew
    assert_same(own, own[: -len(rest)] + rest)


def trains(module: nn.Module, state: nn.Module | None = None) -> bool:
    """Whether a call moves the running statistics, which only training does."""
    statistics = (state or module).state_dict()
    name = next(n for n in statistics if n.endswith("running_mean"))
    before = statistics[name].clone()
    module(3 + 5 * torch.randn(8, 1, 8, 8))
    return not torch.equal(before, (state or module).state_dict()[name])


def switched_by(graph: CompactGraph) -> dict[str, Callable[[bool], Any]]:
    holder = nn.Sequential(graph)
    return {
        "train": graph.train,
        "a parent's train": holder.train,
        "assignment": lambda mode: setattr(graph, "training", mode),
        "every part's assignment": lambda mode: [setattr(m, "training", mode) for m in graph.modules()],
    }


@pytest.mark.parametrize("how", switched_by(half().graph_module))
def test_flags_and_mode_cannot_disagree(how: str) -> None:
    graph = half().graph_module
    switch = switched_by(graph)[how]
    assert not trains(graph)
    for mode in (True, False, True):
        switch(mode)
        assert graph.training == mode
        assert trains(graph) == mode
        with mode_of(graph, training=not mode):
            assert trains(graph) != mode
        assert trains(graph) == mode
        evaluate(graph, small_data().holdout)
        assert trains(graph) == mode
        graph.recompile()
        graph.load_state_dict(graph.state_dict())
        assert trains(graph) == mode


COPIES: dict[str, Callable[[CompactGraph], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "compile": lambda g: torch.compile(g, backend="eager"),  # type: ignore[dict-item]
    "new graph": lambda g: CompactGraph(g, copy.deepcopy(g).graph),
}


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("how", COPIES)
def test_copies_and_wrappers_keep_the_mode_and_switch(how: str, mode: bool) -> None:
    graph = half(dropout=0.0).graph_module.train(mode)
    x = torch.randn(4, 1, 8, 8)
    with mode_of(graph, training=False):
        wanted = graph(x)
    twin = COPIES[how](graph)
    assert trains(twin) == mode
    for again in (not mode, mode):
        twin.train(again)
        assert trains(twin) == again
    fresh = COPIES[how](half(dropout=0.0).graph_module.train(mode)).eval()
    torch.testing.assert_close(fresh(x), wanted)


def test_a_wrapper_of_several_processes_switches_the_graph_in_it() -> None:
    graph = half().graph_module.train()
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(graph)
        for mode in (False, True, False):
            wrapped.train(mode)
            assert trains(wrapped, graph) == mode
    finally:
        torch.distributed.destroy_process_group()


def test_what_is_on_in_evaluation_stays_on() -> None:
    """A dropout that the user never turns off (Monte Carlo dropout) is no flag of the mode."""

    class Always(SmallNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(super().forward(x), 0.5, training=True)

    network = trace_network(Always(), (torch.zeros(1, 1, 8, 8),))
    graph = compact(network, np.ones(network.n_atoms, dtype=bool), in_place=False).graph_module
    out = graph(torch.randn(64, 1, 8, 8))
    assert 0.3 < float((out == 0).float().mean()) < 0.7
    assert not trains(graph)


class Normed(nn.Module):
    """Layer norm over prunable channels: its masked network is a graph, with a dropout and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 16)
        self.batch, self.drop, self.head = nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.batch(self.two(self.norm(self.one(x)).relu())).relu()))


def test_a_masked_graph_follows_the_module_whose_parameters_it_reads() -> None:
    torch.manual_seed(0)
    model = Normed()
    network = trace_network(model, (torch.zeros(2, 8),))
    assert network.node_sites
    masked = MaskedNetwork(network, np.ones(network.n_atoms, dtype=bool))
    x = torch.randn(16, 8)
    for mode in (True, False, True):
        masked.train(mode)
        before = model.batch.running_mean.clone()
        torch.manual_seed(1)
        out = masked(x)
        moved = model.batch.running_mean.clone()
        assert torch.equal(before, moved) != mode
        model.batch.running_mean.copy_(before)
        torch.manual_seed(1)
        torch.testing.assert_close(out, model(x))
        torch.testing.assert_close(model.batch.running_mean, moved)
    model.eval()
    torch.testing.assert_close(masked_forward(network, model, masked.mask, (x,)), model(x))


def test_parts_that_the_user_froze_keep_their_own_mode() -> None:
    """Scoring a network gives each part back its mode, not the whole's."""
    model = SmallNet().train()
    model.bn1.eval()
    evaluate(model, small_data().holdout)
    assert (model.training, model.bn1.training, model.bn2.training) == (True, False, True)
