"""Ultralytics' detectors at a latency budget: base, dense control, one-shot cut, learned cut. One command.

    python -m benchmarks.yolo --cifar10 DIR                     # YOLO11n, seed 0; composes the data itself
    python -m benchmarks.yolo --cifar10 DIR --networks yolo11n,yolov8n --seeds 0,1 --no-depth
    python -m benchmarks.yolo --cifar10 DIR --start calibration # the usual recipe: no masks are learned

The pictures are composed (`benchmarks.composed.scenes`: clothes placed on photographs, boxes exact). A
network is trained from random weights with Ultralytics' own loss and augmentation (no mosaic): the base. From
it, with the same further steps, batches and loss: the dense control; the network that is cut at once by its
weights and then trained; and the one whose masks are learned in the first two fifths, or (`--start
calibration`) that a calibration decides on before all steps tune it. mAP 50-95 on test pictures that are read
once. Then the file is read by `YOLO("model.onnx")`, whose boxes must be those of ONNX
Runtime alone. Latency is as the profile of a Raspberry Pi 4 predicts it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.common.two_ways import Trial
from benchmarks.composed import scenes
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.training import Recipe, load_data
from dtp_edge.zoo import resolve_model

YOLO = EXPERIMENTS["yolo"]
DEVICE, LATENCY, SIZE = "rpi4-ncnn-fp32-1t", "60%", 128
COUNTS = {"train": 640, "val": 160, "test": 400}
RECIPE = Recipe(
    batch_size=16,
    optimizer="adamw",
    base_learning_rate=2e-3,
    mask_learning_rate=1e-3,
    tune_learning_rate=1e-3,
    gradient_clip=10.0,
    ema=0.98,
    recalibrate_batches=10,
    refit_images=128,
)


def run(
    name: str, folder: Path, cifar10: str, seed: int, base: int, steps: int, *, depth: bool, masks: bool
) -> dict[str, Any]:
    """Return the row of one network; what it wrote lies in `folder`, and a stopped run goes on from there."""
    place = folder / "scenes"
    if not (place / "data.yaml").is_file():
        scenes.write(place, cifar10, COUNTS, size=SIZE)
    data = load_data(f"yolo:{place / 'data.yaml'}", SIZE, workers=0)
    torch.manual_seed(seed)
    model, example, _ = resolve_model(
        f"ultralytics:{name}", num_classes=data.num_classes, input_shape=(3, SIZE, SIZE)
    )
    trial = Trial(
        model, example, data, RECIPE, base, steps, DEVICE, LATENCY, folder / f"{name}-{seed}",
        seed=seed, depth=depth, masks=masks,
    )  # fmt: skip
    learned, row = trial.run()
    return (
        {"network": name, "pictures": len(data.train), "size": SIZE}
        | row
        | {
            "class_kept": type(learned.module).__name__,
            "yolo_boxes": read_by_yolo(Path(str(learned.onnx)), place),
        }
    )


def read_by_yolo(file: Path, place: Path) -> dict[str, Any]:
    """Read the file in `YOLO(...)` and compare its boxes with those of ONNX Runtime alone."""
    from ultralytics import YOLO as Reader
    from ultralytics.utils.nms import non_max_suppression

    reader = Reader(str(file), task="detect")
    pictures = sorted((place / "images" / "test").glob("*.jpg"))[:32]
    session = onnxruntime.InferenceSession(str(file))
    worst, boxes = 0.0, 0
    for picture in pictures:
        seen = reader.predict(picture, imgsz=SIZE, conf=0.25, iou=0.7, verbose=False)[0]
        image = (
            np.ascontiguousarray(seen.orig_img[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255
        )
        output = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image})[0])
        alone = non_max_suppression(output, 0.25, 0.7, max_det=300)[0]
        if len(alone) != len(seen.boxes):
            return {"pictures": len(pictures), "same": False}
        boxes += len(alone)
        if len(alone):
            alone[:, :4] = alone[:, :4].clamp(0, SIZE)
            worst = max(worst, float((alone - seen.boxes.data).abs().max()))
    return {"pictures": len(pictures), "boxes": boxes, "same": worst < 1e-3, "largest_difference": worst}


def whole_page() -> str:
    """Return the page of the rows that are there; of several runs of one network and seed the last."""
    about = (__doc__ or "").split("\n\n", 1)[1].strip("\n")
    rows = {
        (row["network"], row["seed"], *row["steps"], row.get("depth", False), row.get("masks", True)): row
        for row in YOLO.read()
    }
    lines = [
        "# Ultralytics' detectors",
        "",
        *about.splitlines(),
        "",
        f"Budget: {LATENCY} of the dense latency on {DEVICE}, {SIZE} x {SIZE} pixels. mAP 50-95 in percent.",
        "",
        "| network | what may go | decided by | base | dense control | cut at once: before, after training |"
        " decided: before, after training |"
        " steps | pictures | class kept | same boxes in YOLO |"
        " CPU s (decided, control; of it scores, choice of the cut) | date, machine, commit |",
        "|" + "---|" * 13,
        *(_line(row) for row in rows.values()),
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    share = {key: f"{100 * row[key]:.1f}" for key in ("base", "control", "at_cut", "pruned", "one_shot")}
    boxes = row["yolo_boxes"]
    cells = [
        f"{row['network']}, seed {row['seed']}",
        f"channels and branches: {row['branches'][0]} of {row['branches'][1]} went"
        if row.get("depth")
        else "channels",
        "learned masks" if row.get("masks", True) else "calibration",
        share["base"],
        share["control"],
        f"{100 * row['one_shot_at_cut']:.1f}, {share['one_shot']}",
        f"{share['at_cut']}, {share['pruned']}",
        " + ".join(map(str, row["steps"])),
        f"{row['pictures']}, {row['n_test']} to test",
        row["class_kept"],
        f"{boxes.get('boxes', 0)} boxes: {'yes' if boxes['same'] else 'no'}",
        f"{row['cpu_seconds']['learned_and_control']}{_of_it(row)}",
        f"{row['date']}, {row['machine']}, {row['commit']}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _of_it(row: dict[str, Any]) -> str:
    """Return the times, by the clock, of what comes besides training steps."""
    parts = row.get("phase_seconds", {})
    found = [f"{parts[name]:.0f} s" for name in ("scores", "choice of the cut") if name in parts]
    return f" ({', '.join(found)} by the clock)" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", required=True, help="the folder of CIFAR-10")
    parser.add_argument("--folder", type=Path, default=Path("runs/yolo"), help="where data and results go")
    parser.add_argument("--networks", default="yolo11n")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--base", type=int, default=400, help="optimiser steps before the cut")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps after it, or for masks")
    parser.add_argument("--no-depth", action="store_true", help="only channels may go, no branches")
    parser.add_argument("--start", choices=["masks", "calibration"], default="masks", help="what decides")
    args = parser.parse_args()
    for name in args.networks.split(","):
        for seed in map(int, args.seeds.split(",")):
            row = run(
                name, args.folder, args.cifar10, seed, args.base, args.steps,
                depth=not args.no_depth, masks=args.start == "masks",
            )  # fmt: skip
            YOLO.append(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
