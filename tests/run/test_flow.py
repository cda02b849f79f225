"""One run as values, each made once from the one before; nothing of the caller's is touched."""

from __future__ import annotations

import ast
import random
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import UnsupportedError
from dtp_edge.proof import Check
from dtp_edge.run import task as task_module
from dtp_edge.run import traced as traced_module
from dtp_edge.run.delivery import Delivered, deliver
from dtp_edge.run.options import NOBODY, Listener, Options, Origin
from dtp_edge.run.pipeline import prune
from dtp_edge.run.proved import Cut
from dtp_edge.run.task import Task
from dtp_edge.training import Recipe, load_data

ROOT = Path(__file__).parents[2]
DEVICE = "rpi4-ncnn-fp32-1t"
INPUT = torch.zeros(1, 1, 8, 8)
OPTIONS = Options(dtp.Budget(macs="50%"), device=DEVICE)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU())
    return nn.Sequential(convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def delivered() -> Delivered:
    task = Task.trace(net(), (INPUT,), OPTIONS)
    cut = Cut.of(task, task.harden(np.arange(28.0)))
    return deliver(cut, OPTIONS, None, NOBODY)


def test_every_value_of_a_run_is_frozen_and_holds_the_one_before() -> None:
    found = delivered()
    for value, name in ((OPTIONS, "seed"), (found.cut.task, "cost"), (found.cut, "keep"), (found, "files")):
        assert is_dataclass(value)
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
    assert found.checks[: len(found.cut.checks)] == found.cut.checks
    assert found.files == ()
    assert all(check.passed for check in found.checks)


def test_a_check_made_while_tracing_reaches_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Check("the user's own module == traced graph", True, 0.0, 1e-4)
    monkeypatch.setattr(traced_module, "check_traced_equals_own", lambda *_: made)
    report = prune(net(), INPUT, OPTIONS).report
    assert report["checks"][0]["name"] == made.name
    failed = Check("the user's own module == traced graph", False, 1.0, 1e-4)
    monkeypatch.setattr(traced_module, "check_traced_equals_own", lambda *_: failed)
    with pytest.raises(dtp.CheckError, match="own module"):
        prune(net(), INPUT, OPTIONS)


def test_a_listener_hears_what_begins_and_an_origin_is_reported() -> None:
    heard: list[str] = []
    origin = Origin(command="make it", model_name="mine", weights_from="a file", warnings=("careful",))
    options = Options(dtp.Budget(macs="50%"), device=DEVICE, seed=3, origin=origin)
    report = prune(net(), INPUT, options, Listener(stage=heard.append)).report
    assert heard[0] == "tracing the network"
    assert heard[-1] == "writing the report"
    assert (report["run"]["command"], report["run"]["seed"]) == ("make it", 3)
    assert (report["model"]["name"], report["model"]["weights_from"]) == ("mine", "a file")
    assert report["warnings"][0] == "careful"


def test_what_cannot_be_stored_is_refused_before_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: object) -> None:
        raise UnsupportedError("the operator aten.strange cannot be stored")

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(task_module, "require_storable", refuse)
    monkeypatch.setattr("dtp_edge.run.trained.run_training", never)
    budget = dtp.Budget(macs="50%")
    with pytest.raises(UnsupportedError, match="strange"):
        dtp.prune_for_device(
            net(), INPUT, device=DEVICE, budget=budget, data=load_data("digits", image_size=8)
        )
    with pytest.raises(UnsupportedError, match="strange"):
        dtp.TransportPruner(net(), INPUT, device=DEVICE, budget=budget, total_steps=3)


def generators() -> tuple[bytes, object, bytes]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        np.random.get_state()[1].tobytes(),  # type: ignore[index]
    )


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before, seed = generators(), torch.initial_seed()
    recipe = Recipe(base_epochs=0, mask_epochs=1, tune_epochs=0, batch_size=512)
    budget, data = dtp.Budget(macs="50%"), load_data("digits", image_size=8)
    model = net()
    torch.manual_seed(7)
    trained = dtp.prune_for_device(model, INPUT, device=DEVICE, budget=budget, data=data, recipe=recipe)
    assert generators() == before
    with pytest.raises(dtp.BudgetError):
        dtp.prune_for_device(model, INPUT, device=DEVICE, budget=dtp.Budget(latency="0.01%"))
    dtp.TransportPruner(model, INPUT, device=DEVICE, budget=budget, total_steps=2).finish()
    assert generators() == before
    assert torch.initial_seed() == seed
    torch.manual_seed(8)  # and what the caller drew before makes no difference
    again = dtp.prune_for_device(model, INPUT, device=DEVICE, budget=budget, data=data, recipe=recipe)
    for a, b in zip(trained.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def makes(path: Path, name: str) -> bool:
    """Return whether a file calls `name`."""
    called = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(name in (getattr(f, "id", ""), getattr(f, "attr", "")) for f in called)


def test_a_learner_is_made_in_one_place() -> None:
    """Outside the tests of the learner's own room."""
    folders, own_room = ("dtp_edge", "benchmarks", "examples", "tests"), ROOT / "tests" / "transport"
    files = [p for folder in folders for p in (ROOT / folder).rglob("*.py") if own_room not in p.parents]
    found = [str(p.relative_to(ROOT)) for p in files if makes(p, "MaskLearner")]
    assert found == ["dtp_edge/run/task.py"]
