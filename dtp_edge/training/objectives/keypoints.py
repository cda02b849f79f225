"""Keypoints: places in an image, as coordinates or as heat maps; the mean distance from where they are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.main_output import main_output
from dtp_edge.training.objectives.torch_metric import TorchMetric, torchmetrics

__all__ = ["OBJECTIVE", "Keypoints"]

_SIGMA = 1.5  # cells of a heat map: how wide a keypoint's hill is


class Keypoints(Objective):
    """Batches are `(images, points)`, the points `[B, K, 2]`: x and y from 0 to 1 of the image.

    `[B, K, 3]` has a 1 where a point can be seen, and a 0 where it counts nowhere.
    The output is the points `[B, K, 2]` (or `[B, 2K]`), or heat maps `[B, K, h, w]`; of their hill the mean
    place is read.
    """

    name = "keypoints"
    headline = Headline("mean keypoint error", unit="% of the side", higher_is_better=False)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        points, seen = _wanted(batch)
        made = _first(outputs)
        if made.dim() == 4:
            hills = _hills(points, made.shape[2], made.shape[3])
            per_point = (made - hills).square().mean((2, 3)) * made.shape[2] * made.shape[3]
        else:
            per_point = F.smooth_l1_loss(places(made, points), points, reduction="none", beta=0.05).sum(-1)
        return (per_point * seen).sum() / seen.sum().clamp_min(1)

    def distilled(self, outputs: Any) -> Tensor:
        return _first(outputs)

    def metric(self) -> Metric:
        return TorchMetric(torchmetrics().aggregation.MeanMetric(), _distances)

    def refuse(self, data: Any, outputs: Any) -> None:
        _first(outputs)


def _first(outputs: Any) -> Tensor:
    return main_output(outputs, (2, 3, 4), "[batch, K, 2], or heat maps [batch, K, height, width]")


def _wanted(batch: Any) -> tuple[Tensor, Tensor]:
    points = batch[1]
    if points.dim() != 3 or points.shape[2] not in (2, 3):
        raise unfit(
            f"the points are {list(points.shape)}, not [batch, K, 2 or 3]", "Give x, y, and 1 if seen."
        )
    seen = (points[..., 2] > 0).float() if points.shape[2] == 3 else torch.ones_like(points[..., 0])
    return points[..., :2].float(), seen


def places(made: Tensor, points: Tensor) -> Tensor:
    """Return the points `[B, K, 2]` that a network's output says."""
    if made.dim() == 4:
        height, width = made.shape[2:]
        share = made.clamp_min(0).flatten(2)
        peak = made.flatten(2).argmax(-1, keepdim=True)
        share = (share * _near(peak, height, width)).clamp_min(0)
        share = torch.where(share.sum(-1, keepdim=True) > 0, share, _one_hot(peak, share))
        share = share / share.sum(-1, keepdim=True)
        ys, xs = _grid(height, width, made)
        made = torch.stack([(share * xs).sum(-1), (share * ys).sum(-1)], -1)
    elif made.dim() == 2:
        made = made.unflatten(1, (-1, 2)) if made.shape[1] % 2 == 0 else made[..., None]
    if made.shape != points.shape:
        raise unfit(
            f"the data has {points.shape[1]} points, the network's output is {list(made.shape)}",
            "Build the network for as many keypoints as the data has.",
        )
    return made


def _grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The middles of the cells, from 0 to 1, row by row."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    return ys.repeat_interleave(width), xs.repeat(height)


def _near(peak: Tensor, height: int, width: int) -> Tensor:
    """1 within two cells of the peak: far noise moves no mean."""
    cells = torch.arange(height * width, device=peak.device)
    far_y = (cells // width - peak // width).abs()
    far_x = (cells % width - peak % width).abs()
    return ((far_y <= 2) & (far_x <= 2)).float()


def _one_hot(peak: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(-1, peak, 1.0)


def _hills(points: Tensor, height: int, width: int) -> Tensor:
    """Return `[B, K, h, w]`, a Gaussian of height 1 on each point."""
    ys, xs = _grid(height, width, points)
    far = ((xs - points[..., :1]) * width).square() + ((ys - points[..., 1:]) * height).square()
    return torch.exp(-far / (2 * _SIGMA**2)).unflatten(-1, (height, width))


def _distances(outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Every point's distance in percent of the image's side, and whether it counts."""
    points, seen = _wanted(batch)
    return 100 * (places(_first(outputs), points) - points).norm(dim=-1), seen


OBJECTIVE = Keypoints
