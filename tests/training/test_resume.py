"""A run that was interrupted and resumed ends in the very bits of the run that was not."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_training import fingerprint, small_data, small_recipe, small_run

from dtp_edge.errors import InputError, Interrupted
from dtp_edge.training import evaluate
from dtp_edge.training.checkpoint import PhaseState, Store

HERE = Path(__file__).parent


_ADAM_RATES = {f"{phase}_learning_rate": 0.003 for phase in ("base", "mask", "tune")}


SHORT = {"base_epochs": 0.5, "mask_epochs": 0.5, "tune_epochs": 0.5}


@functools.cache
def whole() -> dict[str, Any]:
    """What a run of these epochs comes to that nothing stops."""
    return fingerprint(small_run(None, small_recipe(**SHORT)))


class Stop(Exception):
    """Stands for the power going."""


class _StopAt:
    """Raise after some steps, counted over all phases of this process."""

    def __init__(self, after: int, kind: type[BaseException] = Stop) -> None:
        self.left, self.kind = after, kind

    def __call__(self, phase: str, done: int, total: int, info: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.kind


@pytest.mark.parametrize(
    "changes",
    [{}, pytest.param({"optimizer": "adamw", "ema": 0.0, **_ADAM_RATES}, marks=pytest.mark.slow)],
)
def test_stopped_anywhere_and_resumed(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = small_recipe(**SHORT, **changes)
    wanted = fingerprint(small_run(None, recipe)) if changes else whole()
    rng, resume, stops = random.Random(7), False, 0
    while True:  # a checkpoint every step, so that each life gets somewhere
        try:
            found = small_run(
                tmp_path / "checkpoint",
                recipe,
                resume=resume,
                checkpoint_seconds=0.0,
                progress=_StopAt(rng.randint(8, 20)),
            )
            break
        except Stop:
            resume, stops = True, stops + 1
    assert stops >= 3
    assert fingerprint(found) == wanted


def test_ctrl_c_is_saved_and_says_how_to_go_on(tmp_path: Path) -> None:
    recipe = small_recipe(**SHORT)
    with pytest.raises(Interrupted, match="phase masks at step 3") as caught:
        small_run(tmp_path, recipe, progress=_StopAt(13, KeyboardInterrupt))
    assert caught.value.exit_code == 130
    seen = []
    found = small_run(tmp_path, recipe, resume=True, progress=lambda *a: seen.append(a[:2]))
    assert seen[0] == ("masks", 4)
    assert fingerprint(found) == whole()


def test_no_step_is_lost_by_a_stop_while_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(base_epochs=1.2, mask_epochs=0.2, tune_epochs=0.2)
    wanted = fingerprint(small_run(None, recipe))
    scored: list[float] = []

    def stop(*args: object, **options: object) -> float:
        if scored:  # what the phase began with is scored first; this is the end of its first epoch
            raise Stop
        scored.append(evaluate(*args, **options))  # type: ignore[arg-type]
        return scored[0]

    with monkeypatch.context() as patched:
        patched.setattr("dtp_edge.training.loop.evaluate", stop)
        with pytest.raises(Stop):
            small_run(tmp_path, recipe, checkpoint_seconds=1e9)
    seen: list[tuple[object, ...]] = []
    found = small_run(tmp_path, recipe, resume=True, progress=lambda *a: seen.append(a[:2]))
    per_epoch = len(small_data().train) // recipe.batch_size
    assert seen[0] == ("base", per_epoch + 1)
    assert fingerprint(found) == wanted


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    recipe = small_recipe(base_epochs=0.2, mask_epochs=0.2, tune_epochs=0.2)
    first = small_run(tmp_path, recipe)
    names = sorted(p.name for p in tmp_path.iterdir())  # tensors and JSON, nothing else
    phases = ("base", "control", "fine-tune", "masks")
    assert names == [*(f"{phase}.safetensors" for phase in phases), "run.json"]
    seen = []
    again = small_run(tmp_path, recipe, resume=True, progress=lambda *a: seen.append(a))
    assert not seen
    assert fingerprint(again) == fingerprint(first)
    assert again.seconds == first.seconds


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = {"recipe": {"batch_size": 64, "seed": 0}, "budget": "50%"}
    store = Store(tmp_path, run, resume=False)
    store.save("masks", PhaseState(3, True, {"module.x": torch.arange(3.0)}, rows=[{"loss": 0.1}]))
    assert Store(tmp_path, run, resume=True).load("masks").rows == [{"loss": 0.1}]
    with pytest.raises(InputError, match=r"recipe.batch_size was 64, is 32"):
        Store(tmp_path, {**run, "recipe": {"batch_size": 32, "seed": 0}}, resume=True)
    with pytest.raises(InputError, match=r"budget was '50%', is '40%'"):
        Store(tmp_path, {**run, "budget": "40%"}, resume=True)
    (tmp_path / "masks.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(InputError, match="cannot be read"):
        Store(tmp_path, run, resume=True).load("masks")
    assert Store(tmp_path, run, resume=False).load("masks") is None  # without resume it starts anew


def test_the_test_set_is_read_at_the_end_only() -> None:
    import dataclasses

    data = small_data()
    reads: list[str] = []
    phases: list[str] = []

    class Counted:
        def __len__(self) -> int:
            return len(data.test)

        def ordered(self, batch_size: int):  # type: ignore[no-untyped-def]
            reads.append(phases[-1])
            return data.test.ordered(batch_size)

    recipe = small_recipe(base_epochs=0.2, mask_epochs=0.2, tune_epochs=0.2)
    small_run(
        None, recipe, data=dataclasses.replace(data, test=Counted()), progress=lambda *a: phases.append(a[0])
    )
    assert reads == ["control"] * 4  # base, at the cut, pruned, control: once each, after the last phase


def _child(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.Popen(
        [sys.executable, str(HERE / "child_run.py"), str(folder), str(out)], env=environment
    )


@pytest.mark.slow
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    whole = _child(tmp_path / "whole", tmp_path / "whole.json")
    assert whole.wait() == 0
    rng, kills = random.Random(time.time_ns()), 0
    while True:
        child = _child(tmp_path / "killed", tmp_path / "killed.json")
        marker = tmp_path / "killed" / "run.json"
        while kills == 0 and not marker.is_file() and child.poll() is None:
            time.sleep(0.05)
        try:
            code = child.wait(timeout=rng.uniform(2, 12) if kills < 8 else None)
            assert code == 0
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
    assert kills >= 1
    assert json.loads((tmp_path / "killed.json").read_text()) == json.loads(
        (tmp_path / "whole.json").read_text()
    )
