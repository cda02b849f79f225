"""torchvision's transforms v2 that move a picture and its mask or boxes together, by `tv_tensors`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.data.transforms import Transform

__all__ = ["box_transforms", "mask_transforms", "require_v2", "with_boxes", "with_mask"]

IGNORED = 255  # in a mask: what a crop or a turn leaves without a class, and pixels that count nowhere


def require_v2() -> Any:
    """Return torchvision's transforms v2. Raises `InputError` where they are absent or of another torch."""
    try:
        from torchvision.transforms import v2
    except Exception as error:  # a torchvision built for another torch fails with more than ImportError
        raise InputError(
            "pictures with masks or boxes are changed by torchvision, which cannot be imported "
            f"({type(error).__name__})",
            hint='pip install "dtp-edge[vision]"; each torchvision fits one torch.',
        ) from error
    return v2


def mask_transforms(
    size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Transform, Transform]:
    """Return transforms for training and scoring of `(image, mask)`; the image float32 `[3, size, size]`.

    To train: a box of 25 to 100 % of the area and a mirror. To score: the whole, brought to the square.
    """
    v2 = require_v2()
    end = [_to_float(v2), v2.Normalize(list(mean), list(std))]
    learn = [v2.RandomResizedCrop(size, scale=(0.25, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    return v2.Compose([*learn, *end]), v2.Compose([v2.Resize((size, size), antialias=True), *end])


def box_transforms(size: int) -> tuple[Transform, Transform]:
    """Return transforms for training and scoring of `(image, {"boxes", "labels"})`; the image in 0..1.

    To train: a box that keeps some objects (Liu et al. 2016) and a mirror, as torchvision's own script trains
    ssdlite. To score: the whole, brought to the square.
    """
    v2 = require_v2()
    end = [v2.Resize((size, size), antialias=True), _to_float(v2)]
    learn = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip()]
    return v2.Compose([*learn, *end, v2.SanitizeBoundingBoxes()]), v2.Compose(end)


def _to_float(v2: Any) -> Any:
    from torchvision import tv_tensors

    return v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)


def with_mask(picture: Any, mask: Any) -> tuple[Any, Any]:
    """Return a picture of Pillow and a mask `[H, W]` as the transforms take them."""
    from torchvision import tv_tensors

    return tv_tensors.Image(picture), tv_tensors.Mask(torch.from_numpy(mask)[None])


def with_boxes(picture: Any, boxes: Tensor, labels: Tensor) -> tuple[Any, dict[str, Any]]:
    """Return a picture of Pillow and boxes x1 y1 x2 y2 as the transforms take them."""
    from torchvision import tv_tensors

    placed = tv_tensors.BoundingBoxes(
        boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=(picture.height, picture.width)
    )  # type: ignore[call-overload]
    return tv_tensors.Image(picture), {"boxes": placed, "labels": labels}


def plain(nest: Any) -> Tensor:
    """Return a tensor without torchvision's class around it."""
    return nest.as_subclass(Tensor)
