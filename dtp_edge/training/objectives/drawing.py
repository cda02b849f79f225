"""What a network says, drawn into its pictures: coloured pixels, frames with names."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["as_pictures", "data_uri", "with_classes", "with_frames"]

_SIDE = 192  # pixels of a drawn picture's longer side, or up to twice that
_FAINT, _SURE = 0.55, 0.3  # share of the class's colour; score from which a frame is drawn
_QUALITY = 80  # of the JPEG


def as_pictures(images: Tensor, data: DataSource) -> list[Any]:
    """Return Pillow's pictures of a network's inputs `[B, C, H, W]`, as they were before normalisation."""
    from PIL import Image

    images = images.detach().float().cpu()
    channels = images.shape[1]
    mean = torch.tensor(data.mean or (0.0,) * channels).view(1, -1, 1, 1)
    std = torch.tensor(data.std or (1.0,) * channels).view(1, -1, 1, 1)
    levels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    levels = levels[:, :3] if channels >= 3 else levels[:, :1].expand(-1, 3, -1, -1)
    return [_sized(Image.fromarray(level.permute(1, 2, 0).numpy())) for level in levels]


def with_classes(picture: Any, mask: Tensor, ignore_index: int | None = None) -> Any:
    """Return a picture with its pixels tinted by their class; class 0 and ignored pixels stay as they are."""
    from PIL import Image

    numbers = mask.detach().cpu().numpy()
    colours = np.array([_colour(i) for i in range(int(numbers.max()) + 1)], np.uint8)
    tints = Image.fromarray(colours[numbers]).resize(picture.size, Image.Resampling.NEAREST)
    plain = (numbers == 0) | (numbers == ignore_index) if ignore_index is not None else numbers == 0
    where = Image.fromarray(np.where(plain, 0, round(255 * _FAINT)).astype(np.uint8))
    return Image.composite(tints, picture, where.resize(picture.size, Image.Resampling.NEAREST))


def with_frames(
    picture: Any,
    size: tuple[int, int],
    boxes: Tensor,
    labels: Tensor,
    names: Sequence[str] = (),
    scores: Tensor | None = None,
) -> Any:
    """Return a picture with a frame and a name for each box x1 y1 x2 y2; `size` is what the pixels count in.

    Of boxes with scores those above 0.3 are drawn.
    """
    from PIL import ImageDraw

    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    scale = [picture.width / size[0], picture.height / size[1]] * 2
    sure = torch.ones(len(boxes), dtype=torch.bool) if scores is None else scores >= _SURE
    for i in sure.nonzero().flatten().tolist():
        x1, y1, x2, y2 = (float(v) * s for v, s in zip(boxes[i], scale, strict=True))
        label, colour = int(labels[i]), _colour(int(labels[i]) + 1)
        pen.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=2)
        name = names[label] if 0 <= label < len(names) else str(label)
        pen.text((x1 + 3, y1 + 1), name if scores is None else f"{name} {float(scores[i]):.2f}", fill=colour)
    return drawn


def data_uri(picture: Any) -> str:
    """Return a picture as a JPEG inside an address, some 6 KB."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _sized(picture: Any) -> Any:
    """Small pictures are enlarged by a whole number, large ones made smaller."""
    longest = max(picture.size)
    factor = -(-_SIDE // longest) if longest <= 2 * _SIDE else _SIDE / longest
    return picture.resize(tuple(max(1, round(v * factor)) for v in picture.size))


def _colour(label: int) -> tuple[int, int, int]:
    """A colour of its own for each class: hues by the golden ratio."""
    r, g, b = colorsys.hsv_to_rgb(0.618034 * label % 1, 0.85, 1.0)
    return round(255 * r), round(255 * g), round(255 * b)
