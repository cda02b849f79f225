"""scikit-learn's handwritten digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dtp_edge.errors import InputError
from dtp_edge.training.data.arrays import from_arrays
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.registry import Kind
from dtp_edge.training.data.source import DataSource


def digits(size: int = 32) -> DataSource:
    """scikit-learn's 1,797 digits, 8x8, enlarged to `size`; a fixed fifth is the test set."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits come with scikit-learn, which is not installed", hint='pip install "dtp-edge[demo]"'
        ) from error
    pictures, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pictures.reshape(-1, 1, 8, 8)).float().mul(255 / 16)
    images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    images, labels = images.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(classes).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(8))
    cut = len(labels) // 5
    test, train = order[:cut], order[cut:]
    return from_arrays(
        "digits",
        (images[train], labels[train]),
        (images[test], labels[test]),
        augment=Augment(shift=size // 16),
    )


KIND = Kind(
    "digits",
    "digits",
    "scikit-learn's handwritten digits, inside the package",
    lambda ask: digits(ask.image_size or 32),
    extra="demo",
)
