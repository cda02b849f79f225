"""Recordings in class folders, as log-mel pictures."""

from __future__ import annotations

from pathlib import Path

from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.folders import class_names, find_splits, list_files, same_classes
from dtp_edge.training.data.pictures import in_threads
from dtp_edge.training.data.registry import Ask, Kind
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.data.waves import Recordings, check_wave

_SUFFIXES = (".wav", ".flac", ".ogg")
_DEFAULTS = {"mels": 40.0, "rate": 16_000.0, "seconds": 1.0, "window_ms": 40.0, "hop_ms": 20.0}


def wavfolder(folder: Path, settings: dict[str, float], workers: int) -> DataSource:
    """Open class folders of recordings; the head of every file is read before anything is trained."""
    found = find_splits(folder)
    learn_dir = found.get("train", folder)
    classes = class_names(learn_dir)
    sets = {}
    for kind in ("train", "val", "test"):
        if kind != "train" and kind not in found:
            continue
        place = found.get(kind, learn_dir)
        files = list_files(place, same_classes(place, learn_dir, classes), _SUFFIXES, classes)
        in_threads(lambda item: check_wave(item[0]), files, workers)
        sets[kind] = Recordings(files, settings)
    mean, std = sets["train"].normalise()
    for part in sets.values():
        part.mean, part.std = mean, std
    shape = (1, sets["train"].frames, int(settings["mels"]))
    return assemble(
        "wavfolder",
        sets["train"],
        held=sets.get("val") if "test" in sets else None,
        test=sets.get("test", sets.get("val")),
        where=str(folder),
        workers=workers,
        augments=True,
        num_classes=len(classes),
        input_shape=shape,
        mean=(mean,),
        std=(std,),
        folders=f"{folder}: {len(classes)} classes, {len(sets['train'])} to train; log-mel {shape}",
        facts={"classes": classes, **settings},
    )


def _open(ask: Ask) -> DataSource:
    plain, settings = ask.options(_DEFAULTS)
    return wavfolder(plain.folder(), settings, ask.workers)


KIND = Kind(
    "wavfolder",
    "wavfolder:DIR",
    "recordings `CLASS/*.wav` (or `train/CLASS/*.wav`, …) as log-mel `[1, 49, 40]`; behind the folder "
    "`,mels=10,rate=16000,seconds=1,window_ms=40,hop_ms=20` change that",
    _open,
    extra="audio",
)
