"""Image to image (super-resolution, denoising, …): mean absolute error, peak signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.drawing import as_pictures
from dtp_edge.training.objectives.interval import of_mean
from dtp_edge.training.objectives.torch_metric import torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["OBJECTIVE", "ImageToImage", "image_pair"]


class ImageToImage(Objective):
    """Batches are `(images, images wanted)`, values from 0 to `data_range`; the output is what was wanted."""

    name = "image-to-image"
    headline = Headline("PSNR", unit="dB")

    def __init__(self, data_range: float = 1.0) -> None:
        self.data_range = data_range

    @classmethod
    def of(cls, data: DataSource) -> ImageToImage:
        return cls(float(data.facts.get("data_range", 1.0)))

    def settings(self) -> dict[str, Any]:
        return {"data_range": self.data_range}

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return F.l1_loss(*image_pair(outputs, batch))

    def distilled(self, outputs: Any) -> Tensor:
        return outputs[0] if isinstance(outputs, (tuple, list)) else outputs

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        """Return the mean absolute difference: what the loss has for the images wanted."""
        return F.l1_loss(ours, theirs)

    def pictures(self, outputs: Any, batch: Any, data: DataSource) -> list[Any]:
        wanted = batch[1] if outputs is None else image_pair(outputs, batch)[0]
        return as_pictures(wanted / self.data_range, replace(data, mean=(), std=()))

    def metric(self) -> Metric:
        return EachImage(
            torchmetrics().image.PeakSignalNoiseRatio(self.data_range, reduction="none", dim=(1, 2, 3)),
            self.data_range,
        )


class EachImage:
    """The mean over images of what a metric of torchmetrics says of each, with the interval of that mean."""

    def __init__(self, metric: Any, data_range: float) -> None:
        self.measure, self.data_range, self.values = metric, data_range, []

    def update(self, outputs: Any, batch: Any) -> None:
        made, wanted = image_pair(outputs, batch)
        found = self.measure(made.clamp(0, self.data_range), wanted)
        self.measure.reset()
        self.values.append(found.double().flatten())

    def state(self) -> list[Tensor]:
        return self.values

    def merge(self, states: Sequence[list[Tensor]]) -> None:
        for values in states:
            self.values += values

    def compute(self) -> float:
        return float(torch.cat(self.values).mean())

    def interval(self) -> tuple[float, float] | None:
        values = torch.cat(self.values)
        return of_mean(self.compute(), float(values.var()), len(values)) if len(values) > 1 else None


def image_pair(outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Return what the network made and what was wanted, `[B, C, H, W]` each."""
    made, wanted = outputs[0] if isinstance(outputs, (tuple, list)) else outputs, batch[1]
    if not isinstance(made, Tensor) or made.shape != wanted.shape or made.dim() != 4:
        shape = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise unfit(
            f"the images wanted are {list(wanted.shape)}, the network's output is {shape}",
            "Give pairs of images [batch, channels, height, width], the second of the output's size.",
        )
    return made, wanted


OBJECTIVE = ImageToImage
