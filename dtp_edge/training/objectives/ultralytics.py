r"""Ultralytics' detectors: their own loss, and mAP of boxes after their own suppression.

What is distilled are the class scores and the distributions of the boxes' sides. Most places of a detector
see nothing, so each counts by how sure the dense network is of something there, $w = \max_c \sigma(t_c)$:
the divergence of class scores everywhere, that of the sides by $w$, both over the sum of $w$, with the
gains that the loss has.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.box_metric import BoxMetric
from dtp_edge.training.objectives.detection import framed, mean_average_precision

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource
    from dtp_edge.training.recipe import Recipe

__all__ = ["OBJECTIVE", "Ultralytics"]

_CONFIDENCE, _OVERLAP, _MOST = 0.001, 0.7, 300  # as its own validator suppresses
_PATIENCE = 1e6  # seconds an image: its own limit gives up on a busy machine


class Ultralytics(Objective):
    """Batches are Ultralytics' own: `img` in 0..1, `cls`, `bboxes` (shares, xywh), `batch_idx`."""

    name = "ultralytics"
    headline = Headline("mAP 50-95")
    _criterion: Any = None

    def begin(self, network: nn.Module | None, recipe: Recipe) -> None:
        if network is None or not hasattr(network, "init_criterion"):
            raise unfit(
                f"{type(network).__name__} has no loss of Ultralytics",
                "Give ultralytics:yolo11n or YOLO(...).model, or another objective.",
            )
        if getattr(network, "task", "detect") != "detect":
            raise unfit(
                f"the network is for {network.task!r}, and this objective for detection",
                "Train it in your own loop with TransportPruner (docs/ultralytics.md).",
            )
        if isinstance(getattr(network, "args", None), dict) or not hasattr(network, "args"):
            network = _with_args(network)
        self._criterion = network.init_criterion()  # type: ignore[operator]

    def inputs(self, batch: Any) -> Tensor:
        return batch["img"]

    def size(self, batch: Any) -> int:
        return len(batch["img"])

    def parts(self, batch: Any, count: int) -> list[Any]:
        step, found = -(-self.size(batch) // count), []
        for start in range(0, self.size(batch), step):
            own = (batch["batch_idx"] >= start) & (batch["batch_idx"] < start + step)
            part = {name: batch[name][own] for name in ("cls", "bboxes", "batch_idx")}
            part |= {"img": batch["img"][start : start + step]}
            found.append(part | {"batch_idx": part["batch_idx"] - start})
        return found

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        found = _moved(self._criterion, batch["img"].device)(_raw(outputs), batch)[0]
        return found.sum() / self.size(batch)

    def distilled(self, outputs: Any) -> Any:
        found = _raw(outputs)
        found = found.get("one2many", found)
        return {"boxes": found["boxes"], "scores": found["scores"]}

    def distance(self, ours: Any, theirs: Any, temperature: float) -> Tensor | None:
        s, t = (nest["scores"] for nest in (ours, theirs))
        sure = t.sigmoid()
        weight = sure.amax(1, keepdim=True)
        total = weight.sum().clamp_min(1.0)
        apart = F.binary_cross_entropy_with_logits(s, sure, reduction="none")
        apart = apart - F.binary_cross_entropy_with_logits(t, sure, reduction="none")
        found = self._gain("cls") * apart.sum() / total
        bins = ours["boxes"].shape[1] // 4
        if bins > 1:
            sides = [nest["boxes"].unflatten(1, (4, bins)).log_softmax(2) for nest in (ours, theirs)]
            gap = F.kl_div(sides[0], sides[1], log_target=True, reduction="none").sum(2).mean(1, keepdim=True)
            found = found + self._gain("dfl") * (gap * weight).sum() / total
        return found

    def _gain(self, name: str) -> float:
        criterion = getattr(self._criterion, "one2many", self._criterion)
        return float(getattr(criterion.hyp, name, 1.0))

    def metric(self) -> Metric:
        return BoxMetric(mean_average_precision(), _pairs)

    def pictures(self, outputs: Any, batch: Any, data: DataSource) -> list[Any]:
        if outputs is not None:
            return framed(batch["img"], _seen(outputs), data)
        return framed(batch["img"], _truth(batch), data)

    def refuse(self, data: DataSource, outputs: Any) -> None:
        first = outputs[0] if isinstance(outputs, (list, tuple)) and outputs else None
        if not isinstance(first, Tensor) or first.ndim != 3 or len(outputs) != 2:
            raise unfit(
                f"the network returns {type(outputs).__name__}, not boxes and what its loss reads",
                "The objective `ultralytics` is for its detectors; give one of your own for others.",
            )
        found = int(_raw(outputs).get("one2many", _raw(outputs))["scores"].shape[1])
        if data.num_classes not in (None, found):
            raise InputError(
                f"the network knows {found} classes, the data {data.num_classes}",
                where="--data",
                hint="Build it for the classes of the data: ultralytics:NAME is built so by itself.",
            )


def _with_args(network: nn.Module) -> nn.Module:
    """Return a shallow copy with Ultralytics' own settings where a checkpoint has them as a dict, or none."""
    from ultralytics.cfg import get_cfg

    shallow, own = copy.copy(network), getattr(network, "args", {})
    known = set(vars(get_cfg()))
    shallow.args = get_cfg(overrides={k: v for k, v in own.items() if k in known})
    return shallow


def _raw(outputs: Any) -> dict[str, Any]:
    """Return what the loss reads: in training all, in evaluation what stands behind the boxes."""
    return outputs[1] if isinstance(outputs, (list, tuple)) else outputs


def _moved(thing: Any, device: torch.device) -> Any:
    """Move a criterion, which is no module but holds tensors and modules; in place."""
    for name, value in vars(thing).items():
        if isinstance(value, Tensor):
            setattr(thing, name, value.to(device))
        elif isinstance(value, nn.Module):
            value.to(device)
        elif isinstance(value, torch.device):
            setattr(thing, name, device)
        elif type(value).__module__ == type(thing).__module__ and hasattr(value, "__dict__"):
            _moved(value, device)
    return thing


def _pairs(outputs: Any, batch: Any) -> tuple[Any, Any]:
    """Return detections and truth as torchmetrics reads them, in pixels."""
    return _seen(outputs), _truth(batch)


def _seen(outputs: Any) -> list[dict[str, Tensor]]:
    """Return what is left of a network's boxes after suppression."""
    from ultralytics.utils.nms import non_max_suppression

    first = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    found = non_max_suppression(
        first.clone(), _CONFIDENCE, _OVERLAP, max_det=_MOST, max_time_img=_PATIENCE, multi_label=True
    )
    return [{"boxes": d[:, :4], "scores": d[:, 4], "labels": d[:, 5].long()} for d in found]


def _truth(batch: Any) -> list[dict[str, Tensor]]:
    height, width = batch["img"].shape[2:]
    scale = torch.tensor([width, height, width, height])
    truth = []
    for i in range(len(batch["img"])):
        own = batch["batch_idx"] == i
        x, y, w, h = (batch["bboxes"][own] * scale).unbind(1)
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        truth.append({"boxes": boxes, "labels": batch["cls"][own].flatten().long()})
    return truth


OBJECTIVE = Ultralytics
