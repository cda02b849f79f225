"""Super-resolution: photographs of CIFAR-10 at 16 x 16, and what they were at 32 x 32.

    python -m benchmarks.composed.small_pictures --cifar10 DIR --out /tmp/small.npz

Read it by `npz:OUT`; both are uint8, so the network's output is a picture in 0..1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dtp_edge.training import load_data


def halved(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 pictures at half their size: the mean of every four pixels."""
    return F.avg_pool2d(images.float(), 2).round().to(torch.uint8)


def write(path: Path, cifar10: str, train: int, test: int) -> Path:
    """Write x and y of each split; return the path."""
    data = load_data(f"cifar10:{cifar10}")
    arrays = {}
    for split, part, count in (("train", "train", train), ("val", "holdout", test), ("test", "test", test)):
        images = data.split(part).images[:count]  # type: ignore[attr-defined]
        arrays |= {f"x_{split}": halved(images).numpy(), f"y_{split}": images.numpy()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", required=True, help="the folder of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=8000, help="pictures to train on")
    parser.add_argument("--test", type=int, default=1000, help="pictures of val and of test, each")
    args = parser.parse_args()
    print(write(args.out, args.cifar10, args.train, args.test))


if __name__ == "__main__":
    main()
