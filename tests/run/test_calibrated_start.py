"""A training that starts with a calibration: no masks are learned, and all epochs tune what was fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.run.calibrated_widths import keep_by_calibration
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.pipeline import prune
from dtp_edge.run.warm_start import WarmStart
from dtp_edge.training import Recipe, from_arrays, load_data, run_training

DEVICE = "rpi4-ncnn-fp32-1t"
RECIPE = Recipe(batch_size=16, tune_epochs=2, tune_learning_rate=0.01)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.b, self.m = nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.m(self.b(torch.relu(self.n(self.a(x))))) + x)


def network() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(stem, Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Pictures whose brightest channel is their class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = rng.integers(0, 160, (400, 3, 8, 8), dtype=np.uint8)
    x[np.arange(400), y] += 60
    path = tmp_path_factory.mktemp("data") / "a.npz"
    np.savez(path, x=x, y=y)
    return load_data(f"npz:{path}")


def run(data: Any, recipe: Recipe, **more: Any) -> dtp.PruneResult:
    budget = dtp.Budget(macs="60%")
    recipe_with_base = recipe if recipe.base_epochs else Recipe(**{**recipe.to_json(), "base_epochs": 2})
    return dtp.prune_for_device(
        network(), torch.randn(1, 3, 8, 8), device=DEVICE, budget=budget, data=data, recipe=recipe_with_base,
        **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(data, tmp_path_factory: pytest.TempPathFactory) -> dtp.PruneResult:
    return run(data, RECIPE, out=tmp_path_factory.mktemp("runs") / "r")


def test_every_epoch_after_the_base_tunes(result, data) -> None:
    rows = result.report["curves"]
    assert "masks" not in {row["phase"] for row in rows}
    steps = 2 * (len(data.train) // RECIPE.batch_size)
    last = {phase: max(r["step"] for r in rows if r["phase"] == phase) for phase in ("fine-tune", "control")}
    assert last == {"fine-tune": steps, "control": steps}
    accuracy = result.report["accuracy"]
    assert accuracy["pruned"] > 0.8
    assert result.report["run"]["parts_s"]["calibration"] > 0
    assert "Before it the cut was calibrated" in (result.out / "report.html").read_text()


def test_the_cut_needs_no_training_to_be_near(result) -> None:
    accuracy = result.report["accuracy"]
    assert accuracy["at_cut"] > accuracy["base"] - 0.1


def test_the_same_again(result, data) -> None:
    again = run(data, RECIPE)
    for name, tensor in again.module.state_dict().items():
        assert torch.equal(tensor, result.module.state_dict()[name]), name


def test_a_warm_start_is_refused(data, tmp_path: Path) -> None:
    warm, out = WarmStart(tmp_path / "none", {}), tmp_path / "out"
    asked: dict[str, Any] = {"device": DEVICE, "data": data, "recipe": RECIPE, "warm": warm, "out": out}
    with pytest.raises(InputError, match="a warm start begins with masks"):
        prune(network(), torch.randn(1, 3, 8, 8), Options(dtp.Budget(macs="60%"), **asked), Listener())
    assert not (out / "checkpoint").exists()  # before anything is trained


def test_a_training_that_cannot_begin_so_is_refused_and_leaves_nothing(data, tmp_path: Path) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("masks are not what was asked for")

    with pytest.raises(InputError, match="nothing calibrates"):
        run_training(network(), data, RECIPE, make_learner=never, cut=never, checkpoint_dir=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("usual", "effort"),
    [(1e3, 0.1 * 1e3), (3.0, 1.0), (1.0, 0.6), (1e-3, 0.25)],
    ids=["long", "usual", "short", "very-short"],
)
def test_a_calibration_takes_a_share_of_the_training(
    data, monkeypatch: pytest.MonkeyPatch, usual: float, effort: float
) -> None:
    """`usual` times the usual work of a calibration is what the tuning computes."""
    seen: list[float] = []

    def noted(task: Any, batches: Any, seed: int, *, effort: float, errors: Any) -> Any:
        seen.append(effort)
        return keep_by_calibration(task, batches, seed)

    macs = 3 * 16 * 9 * 64 + 2 * 2 * 16 * 24 * 9 * 64 + 16 * 3
    monkeypatch.setattr("dtp_edge.run.calibrated_start.keep_by_calibration", noted)
    monkeypatch.setattr("dtp_edge.run.calibrated_start.TRIALS", 3 * macs * len(data.train) * 2 / usual)
    monkeypatch.setattr("dtp_edge.run.calibrated_start.CURVES", 0.0)
    run(data, RECIPE)
    assert seen == [pytest.approx(effort, rel=0.02)]


def test_branches_that_there_was_no_time_to_try_are_told(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtp_edge.run.trials.WORK", 1e8)
    result = run(data, RECIPE)
    assert any("too large to try it without each of its 2 branches" in text for text in result.warnings)


def test_what_cannot_be_calibrated_on_is_told_with_the_way_out() -> None:
    x, y = torch.zeros(12, 3, 8, 8, dtype=torch.uint8), torch.arange(12) % 3
    few = from_arrays("few", (x, y), (x, y))
    with pytest.raises(InputError, match="data: too few") as caught:
        run(few, Recipe(batch_size=4, tune_epochs=1, base_epochs=1))
    assert "mask_epochs above 0" in str(caught.value.hint)
