"""ultralytics:NAME, such as ultralytics:yolo11n or yolo11n-seg, built from Ultralytics' own yaml, no weights.

A trained `.pt` is a pickle, which runs code when it is read: it is not opened here. Load it with `YOLO(...)`
in a function of your own (FILE.py:NAME), or take its `state_dict` as --weights.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.zoo.sources.network_source import Source, optional, unknown

EXTRA = "ultralytics"
SIZE = 640  # of its published networks
SCALES = "nslmx"


def find(name: str, channels: int | None, _shape: tuple[int, ...] | None) -> Source:
    """Return a network of Ultralytics with so many classes (80 where nobody says)."""
    if name.endswith(".pt"):
        raise InputError(
            "is a pickle, which runs code when it is read",
            where=name,
            hint="Let FILE.py:NAME return YOLO('FILE.pt').model, or give ultralytics:yolo11n and --weights.",
        )
    tasks = optional("ultralytics.nn.tasks", "ultralytics", EXTRA)
    name = name.removesuffix(".yaml")
    if name not in (known := _names()):
        raise unknown("ultralytics", name, known)
    read = 3 if channels is None else channels

    def build(classes: int | None) -> nn.Module:
        return _built(tasks, name, read, classes)

    return Source(name, "ultralytics", build, (read, SIZE, SIZE))


def _names() -> list[str]:
    """Return the networks that the package has a yaml for, by size: yolo11n, yolo11s, …"""
    folder = optional("ultralytics.utils", "ultralytics", EXTRA).ROOT / "cfg" / "models"
    found: list[str] = []
    for file in sorted(folder.glob("*/*.yaml")):
        stem, dash, rest = file.stem.partition("-")
        scaled = "\nscales:" in file.read_text(encoding="utf-8")
        sizes = SCALES if scaled and stem[-1:].isdigit() else ("",)
        found += [f"{stem}{size}{dash}{rest}" for size in sizes]
    return found


def _built(tasks: Any, name: str, channels: int, classes: int | None) -> nn.Module:
    get_cfg = optional("ultralytics.cfg", "ultralytics", EXTRA).get_cfg
    config = tasks.yaml_model_load(f"{name}.yaml")
    kinds = {
        "detect": "DetectionModel",
        "segment": "SegmentationModel",
        "classify": "ClassificationModel",
        "pose": "PoseModel",
        "obb": "OBBModel",
    }
    task = tasks.guess_model_task(config)
    if task not in kinds:
        raise InputError(f"is a network for {task!r}", where=name, hint=f"There are {', '.join(kinds)}.")
    config |= {} if classes is None else {"nc": classes}
    module = getattr(tasks, kinds[task])(config, ch=channels, verbose=False)
    module.args, module.task = get_cfg(overrides={"task": task, "model": f"{name}.yaml"}), task
    return module
