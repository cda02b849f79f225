"""A loss that is no longer finite: back to the last good state at half the rate, the same after a kill."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_training import small_data, small_recipe, small_run
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.task import Task
from dtp_edge.training import learn_masks, open_session, train_base
from dtp_edge.training.loss import training_loss
from dtp_edge.training.phase import Session
from dtp_edge.transport import Budget, MaskLearner

HERE = Path(__file__).parent
PLAIN: dict[str, Any] = {"warmup": 0.0, "schedule": "constant", "momentum": 0.0}


class Fragile(nn.Module):
    """Squares in place of ReLU: above some learning rate its loss is infinite within a few steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two, self.three = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x.flatten(1)).square()
        return self.three(self.dropout(self.two(x).square()))


class Stop(Exception):
    pass


def based(rate: float, folder: Path | None = None, stop: int = 0) -> tuple[nn.Module, Session]:
    """`Fragile` trained for three epochs of 20 steps from a checkpoint, if there is one."""
    recipe = small_recipe(
        base_epochs=3, base_learning_rate=rate, warmup=0.0, schedule="constant", momentum=0.0
    )
    calls = itertools.count(1)

    def progress(*_: Any) -> None:
        if next(calls) == stop:
            raise Stop

    session = open_session(
        small_data(), recipe, checkpoint_dir=folder, resume=True, progress=progress, checkpoint_seconds=0.0
    )
    net = Fragile()
    train_base(net, session)
    return net, session


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0, equal_nan=True)


def unmarked(session: Session) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "went_back_from"} for row in session.curves]


def told(session: Session) -> list[str]:
    begin, end = "Training diverged in phase ", " and on with half the learning rate"
    assert all(text.startswith(begin) and end in text for text in session.warnings)
    return [text.removeprefix(begin).partition(end)[0] for text in session.warnings]


def test_it_goes_on_as_a_run_that_began_at_half_the_rate() -> None:
    """The same dropout and the same batches too: everything that changes was put back."""
    found, session = based(0.12)
    assert told(session) == ["base at step 11: it went back to step 0"]
    wanted, calm = based(0.06)
    assert not calm.warnings
    assert_equal(found, wanted)
    assert session.curves[0]["went_back_from"] == 11
    assert unmarked(session) == calm.curves


def test_a_state_that_did_not_hold_is_not_trusted_again() -> None:
    """From the third epoch's beginning half the rate is still too much."""
    _, session = troubled()
    assert told(session) == [
        "base at step 19: it went back to step 0",
        "base at step 42: it went back to step 40",
        "base at step 42: it went back to step 0",
    ]
    assert session.warnings[-1].endswith("(0.02).")
    assert unmarked(session) == based(0.02)[1].curves


def test_three_times_and_then_it_stops() -> None:
    with pytest.raises(InputError, match=r"step 11, gone back 3 times and .* halved to 0\.12"):
        based(1.0)


def test_where_no_rate_would_help_it_stops_at_once() -> None:
    net = Fragile()
    with torch.no_grad():
        net.one.weight.fill_(float("inf"))
    with pytest.raises(InputError, match=r"(?m)no longer finite in phase base at step 0$") as caught:
        train_base(net, open_session(small_data(), small_recipe()))
    assert caught.value.hint


@functools.cache
def troubled() -> tuple[nn.Module, Session]:
    """It diverges in the third epoch, and goes back three times."""
    return based(0.16)


@pytest.mark.parametrize("every", [7, pytest.param(11, marks=pytest.mark.slow)])
def test_killed_anywhere_and_resumed(tmp_path: Path, every: int) -> None:
    """With a checkpoint every step: before, between and after the three times that it goes back."""
    whole, calm = troubled()
    stops = 0
    while True:
        try:
            found, session = based(0.16, tmp_path, every)
            break
        except Stop:
            stops += 1
    assert stops >= 8
    assert_equal(found, whole)
    assert session.warnings == calm.warnings
    assert session.curves == calm.curves


def learner(steps: int) -> MaskLearner:
    network = trace_network(Fragile(), (torch.zeros(1, 1, 8, 8),))
    return Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(macs="50%")).learner(steps)


def masked(rate: float, spoil: int = 0) -> tuple[MaskLearner, Session]:
    """The mask phase; `spoil`: the number of the backward pass that leaves NaN in the scores' gradient."""
    recipe = small_recipe(
        mask_epochs=2, mask_learning_rate=rate, warmup=0.0, schedule="constant", momentum=0.0
    )
    session = open_session(small_data(), recipe)
    found, calls = learner(session.steps(2)), itertools.count(1)
    found.scores.register_hook(lambda g: g * float("nan") if next(calls) == spoil else g)
    learn_masks(found, session, None)
    return found, session


def test_masks_and_duals_are_put_back_too() -> None:
    found, session = masked(0.24)
    assert session.warnings
    wanted, calm = masked(0.24 / 2 ** len(session.warnings))
    assert not calm.warnings
    assert_equal(found, wanted)
    assert np.array_equal(found.harden(), wanted.harden())


def test_scores_that_are_not_finite_are_gone_back_from() -> None:
    found, session = masked(0.04, spoil=5)
    assert told(session) == ["masks at step 4: it went back to step 0"]
    assert_equal(found, masked(0.02)[0])


def test_weights_spoilt_by_the_last_step_are_seen() -> None:
    net, calls = Fragile(), itertools.count(1)
    net.three.weight.register_hook(lambda g: g * float("nan") if next(calls) == 20 else g)
    session = open_session(small_data(), small_recipe(base_epochs=1, base_learning_rate=0.02, ema=0.0))
    train_base(net, session)
    assert len(session.warnings) == 1
    assert all(bool(torch.isfinite(t).all()) for t in net.state_dict().values())


def test_a_buffer_that_was_never_finite_is_no_harm() -> None:
    net = Fragile()
    net.register_buffer("mask", torch.full((3,), -torch.inf))
    session = open_session(small_data(), small_recipe(base_epochs=1, base_learning_rate=0.02))
    train_base(net, session)
    assert not session.warnings


def test_a_whole_run_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is continued behind the phase that went back."""
    calls = itertools.count(1)

    def spoilt(*args: Any) -> torch.Tensor:
        return training_loss(*args) * (float("nan") if next(calls) == 15 else 1.0)

    monkeypatch.setattr("dtp_edge.training.loop.training_loss", spoilt)
    recipe = small_recipe(base_epochs=0.5, tune_epochs=0.5, ema=0.0)
    outcome = small_run(tmp_path, recipe, control=False)
    assert len(outcome.warnings) == 1
    assert outcome.warnings[0].startswith("Training diverged in phase masks at step 4")
    assert small_run(tmp_path, recipe, resume=True, control=False).warnings == outcome.warnings


def test_two_processes_go_back_together(tmp_path: Path) -> None:
    """Only the second one sees a loss that is not finite; the whole run is proved and the same in both."""
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    script = str(HERE / "child_recovery.py")
    subprocess.run([sys.executable, *launch, script, str(tmp_path)], env=environment, check=True, timeout=400)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["world"] == 2
    assert first["means"] == [0.5]
    assert first["warnings"][0].startswith(
        "Training diverged in phase base at step 5: it went back to step 0"
    )
