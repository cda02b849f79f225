"""Ultralytics' own reader of pictures and boxes, as a data set whose samples are functions of row and seed.

Its cache of labels is a pickle beside the data, which is neither read nor written here. Its mosaic mixes
pictures that were read before, so a sample would depend on the order of reading: it is off; all else of its
augmentation is as it is by default.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.errors import InputError
from dtp_edge.graph.hush import hushed

__all__ = ["YoloSet", "in_one_batch"]

_AS_IT_IS = {"mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}
_READS = ("img", "cls", "bboxes")


def _ultralytics() -> Any:
    try:
        from ultralytics.cfg import get_cfg
        from ultralytics.data.dataset import YOLODataset
    except Exception as error:  # of another torch it fails with more than ImportError
        raise InputError(
            f"this layout is read by Ultralytics, which cannot be imported ({type(error).__name__})",
            hint='pip install "dtp-edge[ultralytics]"',
        ) from error

    class Reader(YOLODataset):
        def get_img_files(self, img_path: list[str]) -> list[str]:
            return list(img_path)

        def get_labels(self) -> list[dict[str, Any]]:
            self.get_label_files()
            read, arguments = self.verify_args()
            found = [self.result_to_label(read(one))[0] for one in arguments]
            labels = [label for label in found if label is not None]
            self.im_files = [label["im_file"] for label in labels]
            return labels

    return get_cfg, Reader


class YoloSet(Dataset):
    """Dicts of `img` float32 `[3, size, size]` in 0..1, `cls` `[n, 1]`, `bboxes` `[n, 4]` (shares, xywh).

    An index `(row, seed)` augments by that seed; a row alone is read as it is.
    """

    def __init__(self, pictures: list[Path], names: list[str], size: int, *, augments: bool) -> None:
        self.given = (pictures, names, size, augments)
        self._open()

    def _open(self) -> None:
        pictures, names, size, augments = self.given
        get_cfg, reader = _ultralytics()
        self.hyp = get_cfg(overrides=_AS_IT_IS)
        with hushed():
            self.own = reader(
                [str(path) for path in pictures],
                imgsz=size,
                augment=augments,
                hyp=copy.copy(self.hyp),
                data={"names": dict(enumerate(names)), "nc": len(names), "channels": 3},
                task="detect",
            )
        if len(self.own) != len(pictures):
            raise InputError(
                f"Ultralytics reads {len(self.own)} of {len(pictures)} pictures",
                where=str(pictures[0].parent),
                hint="Look at what `yolo val` says of this data.",
            )
        self.changed, self.own.augment = self.own.transforms, False
        self.plain = self.own.build_transforms(self.hyp)

    def __getstate__(self) -> dict[str, Any]:  # its reader is a class of this function: made anew
        return {"given": self.given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.given = state["given"]
        self._open()

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Tensor]:
        row, seed = index if isinstance(index, tuple) else (index, 0)
        self.own.transforms = self.changed if isinstance(index, tuple) else self.plain
        states = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
                found = self.own[row]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
        sample = {name: found[name] for name in _READS}
        return sample | {"img": sample["img"].float() / 255}


def in_one_batch(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a batch as Ultralytics has it: boxes of all pictures together, `batch_idx` says whose."""
    counts = [len(sample["cls"]) for sample in samples]
    return {
        "img": torch.stack([sample["img"] for sample in samples]),
        "cls": torch.cat([sample["cls"] for sample in samples]),
        "bboxes": torch.cat([sample["bboxes"] for sample in samples]),
        "batch_idx": torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)).float(),
    }
