"""mAP's interval and its sharing among processes: against torchmetrics on pictures drawn by hand."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dtp_edge.training.objectives.box_metric import LEAST_DRAWS, BoxMetric, Matches
from dtp_edge.training.objectives.detection import mean_average_precision

Boxes = dict[str, Tensor]


def pictures(count: int, seed: int = 0, classes: int = 3) -> tuple[list[Boxes], list[Boxes]]:
    """Boxes that are there, and those found: some moved a little, some of a wrong class, some of nothing."""
    draw = torch.Generator().manual_seed(seed)
    found, true = [], []
    for _ in range(count):
        number = int(torch.randint(0, 5, (1,), generator=draw))
        corner = 80 * torch.rand(number, 2, generator=draw)
        boxes = torch.cat([corner, corner + 10 + 30 * torch.rand(number, 2, generator=draw)], 1)
        labels = torch.randint(0, classes, (number,), generator=draw)
        true.append({"boxes": boxes, "labels": labels})
        moved = boxes + 4 * torch.randn(number, 4, generator=draw)
        named = torch.where(torch.rand(number, generator=draw) < 0.8, labels, (labels + 1) % classes)
        extra = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
        found.append(
            {
                "boxes": torch.cat([moved, extra]),
                "labels": torch.cat([named, torch.tensor([0])]),
                "scores": torch.rand(number + 1, generator=draw),
            }
        )
    return found, true


def metric_of(found: list[Boxes], true: list[Boxes], size: int = 4) -> BoxMetric:
    metric = BoxMetric(mean_average_precision(), lambda outputs, batch: (outputs, batch))
    for start in range(0, len(found), size):
        metric.update(found[start : start + size], true[start : start + size])
    return metric


@pytest.fixture(scope="module")
def needs() -> None:
    for name in ("torchmetrics", "torchvision", "pycocotools"):
        pytest.importorskip(name, reason=f"could not import {name!r}")


@pytest.mark.more
def test_a_draw_of_each_picture_once_is_the_headline(needs: None) -> None:
    found, true = pictures(40)
    matches = Matches.of(found, true, mean_average_precision())
    assert matches is not None
    value = metric_of(found, true).compute()
    assert matches.value(np.ones(40)) == pytest.approx(value, rel=1e-6)
    few = np.zeros(40)
    few[:12] = 1
    assert matches.value(few) == pytest.approx(metric_of(found[:12], true[:12]).compute(), rel=1e-6)
    assert matches.value(few) != pytest.approx(value, rel=1e-3)


@pytest.mark.more
def test_the_interval_is_as_wide_as_other_pictures_would_make_it(needs: None) -> None:
    found, true = pictures(60)
    metric = metric_of(found, true)
    low, high = metric.interval() or (0, 0)
    assert low < metric.compute() < high
    others = [metric_of(*pictures(60, seed)).compute() for seed in range(1, 25)]
    spread = float(np.std(others, ddof=1))
    assert 0.5 < (high - low) / (2 * 1.96 * spread) < 2
    less = metric_of(found[:15], true[:15]).interval() or (0, 0)
    assert less[1] - less[0] > 1.4 * (high - low)


@pytest.mark.more
def test_many_boxes_get_few_draws(needs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    many = Matches(
        100, ((np.ones((10, 10**6), dtype=bool), np.arange(10**6) % 100, np.ones(100)),), np.zeros(1)
    )
    asked: list[Any] = []
    monkeypatch.setattr(Matches, "value", lambda self, weights: asked.append(1) or 0.5)
    many.drawn()
    assert len(asked) == LEAST_DRAWS
    monkeypatch.undo()
    found, true = pictures(200, classes=10)
    matches = Matches.of(found, true, mean_average_precision())
    began = time.process_time()
    assert matches is not None
    assert len(matches.drawn()) > LEAST_DRAWS
    assert time.process_time() - began < 20


@pytest.mark.more
def test_processes_that_take_turns_see_what_one_sees(needs: None) -> None:
    found, true = pictures(22)
    whole, parts = metric_of(found, true), [metric_of([], []) for _ in range(3)]
    for turn, start in enumerate(range(0, 22, 4)):
        parts[turn % 3].update(found[start : start + 4], true[start : start + 4])
    joined = metric_of([], [])
    joined.merge([part.state() for part in parts])
    assert joined.compute() == whole.compute()
    assert joined.interval() == whole.interval()
    for (a, _), (b, _) in zip(joined.batches, whole.batches, strict=True):
        assert all(torch.equal(x["boxes"], y["boxes"]) for x, y in zip(a, b, strict=True))


@pytest.mark.more
def test_why_there_is_none_is_told(needs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found, true = pictures(20)
    few = metric_of(found[:5], true[:5])
    assert few.interval() is None
    assert few.why_no_interval == "5 pictures say too little of others"
    nothing = [{k: v[:0] for k, v in one.items()} for one in found]
    blind = metric_of(nothing, true)
    assert blind.compute() == 0
    assert blind.interval() is None
    assert blind.why_no_interval == "no box was found, or none is there"
    monkeypatch.setattr("dtp_edge.training.objectives.box_metric.find_spec", lambda name: None)
    assert "not installed" in metric_of(found, true).why_no_interval
