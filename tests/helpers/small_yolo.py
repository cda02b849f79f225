"""A detector of Ultralytics' blocks, small enough to be traced in seconds, and pictures with boxes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LAYERS: dict[str, Any] = {
    "nc": 3,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C3k2", [32, False, 0.5]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 1, "C2f", [48, True]],
        [-1, 1, "C2PSA", [48]],
    ],
    "head": [[[2, 5], 1, "Detect", ["nc"]]],
}


def detector(classes: int = 3, seed: int = 0) -> Any:
    """Return an untrained `DetectionModel`, its norms and biases drawn too."""
    import copy

    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    model = DetectionModel(copy.deepcopy(LAYERS) | {"nc": classes}, verbose=False)
    model.args, model.task = get_cfg(), "detect"
    model.names = {0: "disc", 1: "square", 2: "bar"}
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        for scores in model.model[-1].cv3:
            scores[-1].bias.fill_(-1.0)  # else an untrained detector is sure of nothing at all
    return model.eval()


def pictures(folder: Path, counts: dict[str, int], size: int = 64) -> Path:
    """Write bright shapes on noise in Ultralytics' layout; return the yaml."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, lines = rng.integers(0, 60, (size, size, 3), dtype=np.uint8), []
            kind, side = int(rng.integers(3)), int(rng.integers(size // 4, size // 2))
            x, y = (int(v) for v in rng.integers(0, size - side, 2))
            high = side // 3 if kind == 2 else side
            shape = np.ones((high, side), bool)
            if kind == 0:
                rows, columns = np.ogrid[:side, :side]
                shape = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 <= side * side / 4
            image[y : y + high, x : x + side][shape] = 220
            box = ((x + side / 2) / size, (y + high / 2) / size, side / size, high / size)
            lines.append(" ".join([str(kind), *(f"{v:.6f}" for v in box)]))
            Image.fromarray(image).save(folder / "images" / split / f"{i:03}.png")
            (folder / "labels" / split / f"{i:03}.txt").write_text("\n".join(lines) + "\n")
    folders = "".join(f"{split}: images/{split}\n" for split in counts)
    (folder / "data.yaml").write_text(f"path: {folder}\n{folders}names: [disc, square, bar]\n")
    return folder / "data.yaml"
