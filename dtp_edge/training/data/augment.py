"""Random shifts and flips of a whole batch at once, drawn from a given generator.

The same as torchvision's v2 RandomCrop(size, padding) and RandomHorizontalFlip on every image, without a
Python loop over the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Shift by up to `shift` pixels with zeros moving in (a crop of the padded image); mirror half."""

    shift: int = 0
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 `[B, C, H, W]` in and out."""
        count = len(images)
        if self.shift:
            images = self._crop(images, torch.randint(0, 2 * self.shift + 1, (2, count), generator=generator))
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images

    def _crop(self, images: Tensor, offset: Tensor) -> Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images, (self.shift,) * 4)
        rows = offset[0][:, None] + torch.arange(height)
        columns = offset[1][:, None] + torch.arange(width)
        return padded.permute(0, 2, 3, 1)[
            torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)
