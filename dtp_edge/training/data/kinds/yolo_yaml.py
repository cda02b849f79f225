"""Detection data in Ultralytics' layout, read by its own reader."""

from __future__ import annotations

from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.registry import Ask, Kind
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.data.yolo_layout import read_layout
from dtp_edge.training.data.yolo_set import YoloSet, in_one_batch

SIZE = 640


def _open(ask: Ask) -> DataSource:
    """Of `val` and `test` the one that is there is the test set; of both, `val` is held out to choose by."""
    file, size = ask.file(), ask.image_size or SIZE
    layout = read_layout(file, ask.workers)
    others = [split for split in ("val", "test") if split in layout.splits]
    sets = {
        split: YoloSet(pictures, layout.names, size, augments=split == "train")
        for split, pictures in layout.splits.items()
    }
    if len(others) < 2:  # a part of train is held out, which must be read as it is
        sets["train"] = YoloSet(layout.splits["train"], layout.names, size, augments=True)
    return assemble(
        "yolo",
        sets["train"],
        held=sets["val"] if len(others) == 2 else None,
        test=sets[others[-1]] if others else None,
        where=str(file),
        collate=in_one_batch,
        workers=ask.workers,
        augments=True,
        num_classes=len(layout.names),
        input_shape=(3, size, size),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        task="ultralytics",
        folders=f"{file}: {', '.join(f'{len(p)} pictures to {s}' for s, p in layout.splits.items())}, "
        f"{layout.boxes} boxes of {len(layout.names)} classes",
        facts={"classes": layout.names},
    )


KIND = Kind(
    "yolo",
    "yolo:DATA.yaml",
    "pictures and boxes in Ultralytics' layout, by its own reader; for Ultralytics' detectors",
    _open,
    extra="ultralytics",
    sized=True,
)
