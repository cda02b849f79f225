"""torchvision's transforms v2 as augmentation, drawn from a given seed and not from the global generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Transform = Callable[[Any], Any]


def seeded(transform: Transform, picture: Any, seed: int) -> Any:
    """Apply a transform whose random draws depend on `seed` alone; torch's global generator is unmoved."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(picture)


@dataclass(frozen=True)
class PerImage:
    """Apply a v2 transform to every image of a batch with its own draws, uint8 `[B, C, H, W]` in and out."""

    transform: Transform

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        seeds = torch.randint(2**62, (len(images),), generator=generator).tolist()
        return torch.stack([seeded(self.transform, x, s) for x, s in zip(images, seeds, strict=True)])


def imagenet_transforms(
    size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Transform, Transform] | None:
    """ImageNet's usual transforms for training and scoring, PIL picture to float32 `[3, size, size]`.

    A random box of 8 to 100 % of the area and a mirror (Szegedy et al. 2015); the middle 7/8 (224 of 256).
    None where torchvision is absent or was built for another torch.
    """
    try:
        from torchvision.transforms import v2
    except Exception:  # a torchvision built for another torch fails with more than ImportError
        return None
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    learn = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    score = [v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size)]
    return v2.Compose([*learn, *end]), v2.Compose([*score, *end])
