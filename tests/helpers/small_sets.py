"""Small data sets of every kind, written here: what a reader finds in them is known."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np


def write_png(path: Path, array: np.ndarray) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def segfolder(folder: Path, count: int = 20, size: int = 16, splits: tuple[str, ...] = ("",)) -> Path:
    """Left half of the class i % 3, right half ignored; the picture's red says the class."""
    for split in splits:
        for i in range(count):
            image = np.full((size, size, 3), 60 * (i % 3), np.uint8)
            mask = np.full((size, size), 255, np.uint8)
            mask[:, : size // 2] = i % 3
            write_png(folder / "images" / split / f"{i:03}.png", image)
            write_png(folder / "masks" / split / f"{i:03}.png", mask)
    return folder


def coco_document(count: int = 20, size: int = 32) -> dict[str, Any]:
    """Two boxes a picture; ids with gaps, as COCO's have."""
    images = [{"id": 7 * i, "file_name": f"{i:03}.png", "width": size, "height": size} for i in range(count)]
    annotations = []
    for i in range(count):
        for j, category in enumerate((90, 3)):
            box = [2 + i % 5, 3 + 10 * j, 12, 8]
            annotations.append({"id": 2 * i + j, "image_id": 7 * i, "category_id": category, "bbox": box})
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(folder: Path, count: int = 20, size: int = 32) -> str:
    """Write pictures and boxes; return what stands behind `coco:`."""
    rng = np.random.default_rng(0)
    for i in range(count):
        write_png(folder / "images" / f"{i:03}.png", rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
    (folder / "boxes.json").write_text(json.dumps(coco_document(count, size)))
    return f"{folder / 'images'},{folder / 'boxes.json'}"


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def wavfolder(folder: Path, count: int = 8, rate: int = 16_000) -> Path:
    """Tones of 300 and 2,000 Hz."""
    time = np.arange(rate) / rate
    for name, pitch in (("low", 300), ("high", 2000)):
        for i in range(count):
            write_wav(folder / name / f"{i}.wav", 0.5 * np.sin(2 * np.pi * (pitch + 10 * i) * time), rate)
    return folder
