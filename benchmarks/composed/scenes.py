"""Scenes: coloured clothes of Fashion-MNIST placed on photographs of CIFAR-10, with exact boxes and masks.

    apt-get install dataset-fashion-mnist
    python -m benchmarks.composed.scenes --cifar10 DIR --out /tmp/scenes          # some 2,400 images, 128 px

Composed, not photographed: what is true of these scenes need not be true of a camera's. Clothes and
photographs of the test part are those of the two sets' own test parts. One folder serves three readers:

    coco:OUT/images/train,OUT/train.json,OUT/images/test,OUT/test.json
    segfolder:OUT          (images/SPLIT/*.jpg with masks/SPLIT/*.png; 0 is the background)
    yolo:OUT/data.yaml     (labels/SPLIT/*.txt)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dtp_edge.training import load_data

CLASSES = (
    *("t-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
SPLITS = ("train", "val", "test")
_SOLID = 24  # of 255: where a piece of clothing is more than its soft edge
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """`image` uint8 `[H, W, 3]`, `mask` uint8 `[H, W]` of class + 1; `boxes` enclose what is
    seen, x2 y2 past the end."""

    image: np.ndarray
    mask: np.ndarray
    boxes: list[Box]
    labels: list[int]


@dataclass(frozen=True)
class Stock:
    """What scenes of a split are made of: `clothes` `[N, 28, 28]`, `labels`, `photos` `[M, 32, 32, 3]`."""

    clothes: np.ndarray
    labels: np.ndarray
    photos: np.ndarray

    def scene(self, seed: tuple[int, ...], size: int) -> Scene:
        """One to five pieces that hardly cover each other, each an eighth to a half of the canvas wide."""
        rng = np.random.default_rng(seed)
        photo = Image.fromarray(self.photos[rng.integers(len(self.photos))])
        image = np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC)).astype(np.float32)
        mask = np.zeros((size, size), np.uint8)
        boxes: list[Box] = []
        labels: list[int] = []
        wanted = int(rng.integers(1, 6))
        for _ in range(4 * wanted):
            if len(boxes) == wanted:
                break
            piece = int(rng.integers(len(self.clothes)))
            side = int(rng.integers(size // 6, size // 2))
            left, top = (int(v) for v in rng.integers(0, size - side, 2))
            cloth = Image.fromarray(self.clothes[piece]).resize((side, side), Image.Resampling.BILINEAR)
            if rng.random() < 0.5:
                cloth = cloth.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            cloth = np.asarray(cloth)
            solid = cloth > _SOLID
            place = (slice(top, top + side), slice(left, left + side))
            box = _extent(solid, left, top)
            if box is None or (mask[box[1] : box[3], box[0] : box[2]] > 0).any():
                continue
            tint = rng.uniform(0.35, 1.0, 3)
            image[place][solid] = (40 + 215 / 255 * cloth[solid, None].astype(np.float32)) * tint
            mask[place][solid] = self.labels[piece] + 1
            boxes.append(box)
            labels.append(int(self.labels[piece]))
        if not boxes:  # only if every draw was blank
            return self.scene((*seed, 1), size)
        noisy = image + rng.normal(0, 4, image.shape)
        return Scene(noisy.clip(0, 255).astype(np.uint8), mask, boxes, labels)


def _extent(solid: np.ndarray, left: int, top: int) -> Box | None:
    ys, xs = solid.any(1).nonzero()[0], solid.any(0).nonzero()[0]
    if len(xs) < 4 or len(ys) < 4:
        return None
    return left + int(xs[0]), top + int(ys[0]), left + int(xs[-1]) + 1, top + int(ys[-1]) + 1


def stocks(cifar10: str, fashion: str = "fashion-mnist") -> dict[str, Stock]:
    """Return the material of each split; no photograph and no piece of clothing is in two of them."""
    clothes, photos = load_data(fashion), load_data(f"cifar10:{cifar10}")
    found = {}
    for split, part in zip(SPLITS, ("train", "holdout", "test"), strict=True):
        worn, behind = clothes.split(part), photos.split(part)
        images = behind.images.permute(0, 2, 3, 1).numpy()  # type: ignore[attr-defined]
        found[split] = Stock(worn.images[:, 0].numpy(), worn.labels.numpy(), images)  # type: ignore[attr-defined]
    return found


def scenes(stock: Stock, count: int, size: int, seed: int) -> Iterator[Scene]:
    """Yield `count` scenes, the same for the same seed."""
    for i in range(count):
        yield stock.scene((seed, i), size)


def write(folder: Path, cifar10: str, counts: dict[str, int], size: int = 128, seed: int = 0) -> Path:
    """Write images, masks, and the labels in the layouts of COCO and of Ultralytics; return the folder."""
    for number, (split, stock) in enumerate(stocks(cifar10).items()):
        for part in ("images", "masks", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        made = list(scenes(stock, counts[split], size, seed * 10 + number))
        for i, scene in enumerate(made):
            Image.fromarray(scene.image).save(folder / "images" / split / f"{i:05}.jpg", quality=95)
            Image.fromarray(scene.mask).save(folder / "masks" / split / f"{i:05}.png")
            (folder / "labels" / split / f"{i:05}.txt").write_text(_yolo(scene, size))
        (folder / f"{split}.json").write_text(json.dumps(_coco(made, size)))
    (folder / "classes.txt").write_text("\n".join(("background", *CLASSES)) + "\n")
    (folder / "data.yaml").write_text(
        f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n"
        + "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    )
    return folder


def _yolo(scene: Scene, size: int) -> str:
    lines = []
    for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
        numbers = ((x1 + x2) / 2 / size, (y1 + y2) / 2 / size, (x2 - x1) / size, (y2 - y1) / size)
        lines.append(f"{label} " + " ".join(f"{v:.6f}" for v in numbers))
    return "\n".join(lines) + "\n"


def _coco(made: list[Scene], size: int) -> dict[str, object]:
    images = [{"id": i, "file_name": f"{i:05}.jpg", "width": size, "height": size} for i in range(len(made))]
    boxes = [
        (i, box, label) for i, s in enumerate(made) for box, label in zip(s.boxes, s.labels, strict=True)
    ]
    annotations = [
        {
            "id": n + 1,
            "image_id": i,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for n, (i, (x1, y1, x2, y2), label) in enumerate(boxes)
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", required=True, help="the folder of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--train", type=int, default=1600, help="images to train on")
    parser.add_argument("--test", type=int, default=400, help="images of val and of test, each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts = {"train": args.train, "val": args.test, "test": args.test}
    print(write(args.out, args.cifar10, counts, args.size, args.seed))


if __name__ == "__main__":
    main()
