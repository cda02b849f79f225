"""Pictures with masks: a data set of them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.training.data.joint import mask_transforms, plain, with_mask
from dtp_edge.training.data.pictures import read_mask, read_picture
from dtp_edge.training.data.transforms import seeded

__all__ = ["MEAN", "STD", "Masked", "Pair"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
Pair = tuple[Path, Path]


class Masked(Dataset):
    """Pictures float32 `[3, size, size]`, normalised, and masks int64 `[size, size]`.

    An index `(row, seed)` augments by that seed.
    """

    def __init__(self, pairs: list[Pair], size: int) -> None:
        self.pairs, self.size = pairs, size
        self.learn, self.score = mask_transforms(size, MEAN, STD)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, seed = index if isinstance(index, tuple) else (index, None)
        picture, mask = (read(p) for read, p in zip((read_picture, read_mask), self.pairs[row], strict=True))
        sample = with_mask(picture, mask)
        image, mask = self.score(sample) if seed is None else seeded(self.learn, sample, seed)
        return plain(image), plain(mask)[0].long()
