"""Pictures with boxes: a data set of them, its batches and the checks before training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.errors import InputError
from dtp_edge.training.data.coco_file import Annotated
from dtp_edge.training.data.joint import box_transforms, plain, with_boxes
from dtp_edge.training.data.pictures import in_threads, picture_size, read_picture
from dtp_edge.training.data.transforms import seeded

__all__ = ["Boxed", "check_pictures", "with_targets"]


class Boxed(Dataset):
    """Pictures float32 `[3, size, size]` in 0..1 and `{"boxes": x1 y1 x2 y2, "labels": from 0}`.

    An index `(row, seed)` augments by that seed.
    """

    def __init__(self, pictures: list[Annotated], size: int) -> None:
        self.pictures, self.size = pictures, size
        self.learn, self.score = box_transforms(size)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        row, seed = index if isinstance(index, tuple) else (index, None)
        one = self.pictures[row]
        boxes = torch.tensor(one.boxes, dtype=torch.float32).reshape(-1, 4)
        sample = with_boxes(read_picture(one.path), boxes, torch.tensor(one.labels, dtype=torch.int64))
        image, target = self.score(sample) if seed is None else seeded(self.learn, sample, seed)
        return plain(image), {"boxes": plain(target["boxes"]), "labels": target["labels"]}


def with_targets(samples: list[Any]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return images as one tensor and targets as a list: each has as many boxes as it has."""
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


def check_pictures(pictures: list[Annotated], workers: int) -> None:
    """Raise `InputError` for a file that is missing, cannot be read or is not as large as it was said."""

    def check(one: Annotated) -> None:
        found = picture_size(one.path)
        if found != one.size:
            raise InputError(
                f"the picture is {found[0]}x{found[1]}, its entry says {one.size[0]}x{one.size[1]}",
                where=str(one.path),
                hint="The boxes belong to another picture: correct the entry.",
            )

    in_threads(check, pictures, workers)
