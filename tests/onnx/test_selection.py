"""Networks that pick candidates: rounding may pick among equal ones, and nothing else may differ."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error

CANDIDATES, WIDTH = 24, 8
WAYS = ["topk", "smallest", "sort", "argmax", "argmin", "max", "masked", "buried", "twice"]


class Picks(nn.Module):
    """Scores that are equal but for `rounding`; the rows of the candidates all differ."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.flipped = way, False
        self.rounding: torch.Tensor
        self.score, self.value, self.mix = nn.Linear(WIDTH, 5), nn.Linear(WIDTH, 6), nn.Linear(6, 6)
        self.register_buffer("rounding", noise(1e-7, seed=1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.score(x.mean(1, keepdim=True)).amax(-1) + self.rounding
        best = self.pick(scores)
        if self.way == "twice":
            best = torch.cat([best, self.pick(-scores)], 1)
        rows = self.value(torch.gather(x, 1, best.unsqueeze(-1).expand(-1, -1, WIDTH)))
        mixed = self.mix(rows).relu().cumsum(1)  # each row with those before it: no order of rows is as good
        return rows, mixed.flip(1) if self.flipped else mixed

    def pick(self, scores: torch.Tensor) -> torch.Tensor:
        if self.way in ("masked", "buried"):
            low = float("-inf") if self.way == "masked" else -1e9
            scores = scores.masked_fill(torch.arange(CANDIDATES) % 3 == 0, low)
        if self.way == "sort":
            return scores.sort(dim=1, descending=True).indices[:, :7]
        if self.way == "argmax":
            return scores.argmax(1, keepdim=True)
        if self.way == "argmin":
            return scores.argmin(1).unsqueeze(1)
        if self.way == "max":
            return scores.max(1).indices.unsqueeze(1)
        return scores.topk(7, dim=1, largest=self.way != "smallest").indices


def noise(size: float, seed: int) -> torch.Tensor:
    return size * torch.randn(1, CANDIDATES, generator=torch.Generator().manual_seed(seed))


def written(way: str, folder: Path) -> tuple[Picks, torch.Tensor, Path]:
    """A network, its input and its file; afterwards the network rounds differently."""
    torch.manual_seed(0)
    module, x = Picks(way).eval(), torch.randn(1, CANDIDATES, WIDTH)
    path = export_onnx(module, x, folder / "a.onnx")
    module.rounding = noise(1e-7, seed=2)
    return module, x, path


@pytest.mark.parametrize("way", WAYS)
def test_equal_candidates_may_be_picked_differently(way: str, tmp_path: Path) -> None:
    module, x, path = written(way, tmp_path)
    session = ort.InferenceSession(str(path))
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert relative_error([y.detach() for y in module(x)], found) > 100 * FLOAT32_LIMIT
    check = check_onnx(path, module, x)
    assert check.passed, check
    assert check.value < FLOAT32_LIMIT == check.limit
    assert "as the file picks" in check.detail


def test_a_file_with_weights_beside_it(tmp_path: Path) -> None:
    module, x, path = written("topk", tmp_path)
    outside = {"save_as_external_data": True, "location": "a.data", "size_threshold": 100}
    onnx.save_model(onnx.load(str(path)), str(path), **outside)
    check = check_onnx(path, module, x)
    assert (tmp_path / "a.data").stat().st_size > 0
    assert check.passed, check
    assert "as the file picks" in check.detail


@pytest.mark.parametrize("way", ["topk", "sort", "max"])
def test_what_is_computed_from_the_picks_must_agree(way: str, tmp_path: Path) -> None:
    module, x, path = written(way, tmp_path)
    module.mix.weight.data[2] *= 1.01
    assert not check_onnx(path, module, x).passed


@pytest.mark.parametrize("way", ["topk", "argmin", "masked"])
def test_the_picks_must_be_the_best_by_the_networks_own_scores(way: str, tmp_path: Path) -> None:
    module, x, path = written(way, tmp_path)
    module.rounding = noise(1e-2, seed=2)
    assert not check_onnx(path, module, x).passed


@pytest.mark.parametrize("way", ["topk", "buried"])
def test_a_better_candidate_that_the_file_leaves_out(way: str, tmp_path: Path) -> None:
    module, x, path = written(way, tmp_path)
    module.rounding = noise(1e-7, seed=1)
    candidate = int(module.rounding[0, 1::3].argmin()) * 3 + 1  # not masked; the file scores it too low
    module.rounding[0, candidate] += 0.05
    assert not check_onnx(path, module, x).passed


def test_scores_that_no_pick_shows_must_agree(tmp_path: Path) -> None:
    module, x, path = written("topk", tmp_path)
    worst = int((module.rounding + noise(1e-7, seed=1)).argmin())  # picked by neither
    module.rounding[0, worst] -= 1.0
    assert not check_onnx(path, module, x).passed


@pytest.mark.parametrize("way", ["topk", "twice"])
def test_the_same_rows_in_another_order_are_another_network(way: str, tmp_path: Path) -> None:
    module, x, path = written(way, tmp_path)
    module.flipped = True
    assert not check_onnx(path, module, x).passed


def test_the_worst_candidates_are_not_the_best(tmp_path: Path) -> None:
    module, x, path = written("smallest", tmp_path)
    module.way = "topk"
    assert not check_onnx(path, module, x).passed
