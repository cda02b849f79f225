"""Pictures in class folders, streamed from disk."""

from __future__ import annotations

from dtp_edge.training.data.image_folder import imagefolder
from dtp_edge.training.data.registry import Kind

KIND = Kind(
    "imagefolder",
    "imagefolder:DIR",
    "ImageNet's layout: `train/CLASS/*.jpg` and a test split `val` or `test` beside it (without one a fifth "
    "is kept for it), streamed from disk by `--workers` processes",
    lambda ask: imagefolder(ask.folder(), ask.image_size or 224, ask.workers),
    sized=True,
)
