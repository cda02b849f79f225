"""mAP of boxes by torchmetrics, how sure it is, and how several processes share its pictures.

The interval draws as many pictures anew (Efron 1979). Boxes are matched once, by COCO's own evaluation; a
draw only weighs the pictures and adds up precision and recall as COCO does, so that with all weights 1 it is
the headline itself. A draw costs some operations for each box found, and the more boxes, the fewer draws.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor

from dtp_edge.training.objectives.interval import bounds_of

__all__ = ["BoxMetric", "Matches"]

MOST_DRAWS, LEAST_DRAWS, OPERATIONS = 400, 50, 10**8  # of a few nanoseconds each
FEWEST = 8  # pictures that say anything of others

Boxes = dict[str, Tensor]


class BoxMetric:
    """`metric` is torchmetrics' mAP; `pick(outputs, batch)` the boxes found and true of each picture."""

    def __init__(self, metric: Any, pick: Any) -> None:
        self.metric, self.pick = metric, pick
        self.batches: list[tuple[list[Boxes], list[Boxes]]] = []

    def update(self, outputs: Any, batch: Any) -> None:
        self.batches.append(self.pick(outputs, batch))

    def state(self) -> list[tuple[list[Boxes], list[Boxes]]]:
        return self.batches

    def merge(self, states: Sequence[list[tuple[list[Boxes], list[Boxes]]]]) -> None:
        """Take in what each process has seen, in the order of the split: they took batches in turns."""
        for turn in range(max(map(len, states), default=0)):
            self.batches += [state[turn] for state in states if turn < len(state)]

    def compute(self) -> float:
        self.metric.reset()
        for found, true in self.batches:
            self.metric.update(found, true)
        return float(self.metric.compute()["map"])

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval; None where `why_no_interval` says why."""
        if self.why_no_interval:
            return None
        matches = Matches.of(*self._pictures(), self.metric)
        return None if matches is None else bounds_of(matches.drawn())

    @property
    def why_no_interval(self) -> str:
        found, true = self._pictures()
        if len(true) < FEWEST:
            return f"{len(true)} pictures say too little of others"
        if find_spec("pycocotools") is None:
            return "it is drawn from the matches of pycocotools, which is not installed"
        some = all(any(len(one["labels"]) for one in part) for part in (found, true))
        return "" if some else "no box was found, or none is there"

    def _pictures(self) -> tuple[list[Boxes], list[Boxes]]:
        found, true = ([one for batch in self.batches for one in batch[part]] for part in (0, 1))
        return found, true


@dataclass(frozen=True)
class Matches:
    """Of each class `(matched [thresholds, boxes], picture [boxes], positives [pictures])`, surest box first.

    `recalls` are those that precision is read at.
    """

    pictures: int
    classes: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    recalls: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Boxes], true: Sequence[Boxes], metric: Any) -> Matches | None:
        """Match by COCO's evaluation, which has to be installed, at the thresholds of torchmetrics' `metric`.

        None where there is nothing to match.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        numbers = sorted({int(n) for one in true for n in one["labels"]})
        detections = list(_entries(found))
        if not numbers or not detections:
            return None
        with redirect_stdout(io.StringIO()):
            truth: Any = COCO()
            truth.dataset = {
                "images": [{"id": i} for i in range(len(true))],
                "categories": [{"id": n} for n in numbers],
                "annotations": list(_entries(true)),
            }
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = metric.max_detection_thresholds[-1:]
            evaluation.params.iouThrs = np.array(metric.iou_thresholds)
            evaluation.evaluate()
        count, seen = len(true), evaluation.evalImgs
        each = tuple(_class_of(seen[i : i + count], count) for i in range(0, len(seen), count))
        return cls(count, each, np.array(metric.rec_thresholds))

    def value(self, weights: np.ndarray) -> float:
        """Return mAP 50-95 where each picture counts `weights` `[pictures]` times."""
        found = []
        for matched, picture, positives in self.classes:
            if not (wanted := float(positives @ weights)):
                continue
            weight = weights[picture]
            true = np.cumsum(matched * weight, axis=1)
            precision = true / (np.cumsum(weight) + np.spacing(1))
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            for row, recall in zip(best, true / wanted, strict=True):
                at = np.searchsorted(recall, self.recalls, side="left")
                found.append(row[at[at < len(row)]].sum() / len(self.recalls))
        return float(np.mean(found)) if found else 0.0

    def drawn(self) -> np.ndarray:
        """Return the value of many draws of as many pictures."""
        size = sum(matched.size for matched, _, _ in self.classes)
        draws = int(np.clip(OPERATIONS // max(1, size), LEAST_DRAWS, MOST_DRAWS))
        rng = np.random.default_rng(0)
        shares = np.full(self.pictures, 1 / self.pictures)
        return np.array([self.value(rng.multinomial(self.pictures, shares)) for _ in range(draws)])


def _entries(pictures: Sequence[Boxes]) -> Iterator[dict[str, Any]]:
    """Yield boxes as COCO writes them: corner and size, and how sure they are where that is known."""
    number = 0
    for i, one in enumerate(pictures):
        corners = one["boxes"].float()
        sizes = (corners[:, 2:] - corners[:, :2]).tolist()
        scores = one["scores"].tolist() if "scores" in one else [None] * len(sizes)
        for corner, size, label, score in zip(
            corners[:, :2].tolist(), sizes, one["labels"].tolist(), scores, strict=True
        ):
            number += 1
            entry = {"id": number, "image_id": i, "category_id": int(label), "bbox": [*corner, *size]}
            more = {"area": size[0] * size[1], "iscrowd": 0} if score is None else {"score": score}
            yield entry | more


def _class_of(seen: Sequence[Any], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join COCO's findings of one class, a picture each or None."""
    positives, parts = np.zeros(count), [(i, one) for i, one in enumerate(seen) if one is not None]
    for i, one in parts:
        positives[i] = int((np.asarray(one["gtIgnore"]) == 0).sum())
    scores = np.concatenate([np.asarray(one["dtScores"], dtype=float) for _, one in parts] or [np.zeros(0)])
    order = np.argsort(-scores, kind="mergesort")
    picture = np.concatenate([np.full(len(one["dtScores"]), i) for i, one in parts] or [np.zeros(0)])
    matched = np.concatenate([one["dtMatches"] > 0 for _, one in parts] or [np.zeros((1, 0))], axis=1)
    return matched[:, order].astype(bool), picture[order].astype(np.int64), positives
