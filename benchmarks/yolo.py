"""Ultralytics' detectors at a latency budget: base, dense control, one-shot cut, learned cut. One command.

    python -m benchmarks.yolo --cifar10 DIR                     # YOLO11n, seed 0; composes the data itself
    python -m benchmarks.yolo --cifar10 DIR --networks yolo11n,yolov8n --seeds 0,1

The pictures are composed (`benchmarks.composed.scenes`: clothes placed on photographs, boxes exact). A
network is trained from random weights with Ultralytics' own loss and augmentation (no mosaic): the base. From
it, with the same further steps, batches and loss: the dense control; the network that is cut at once by its
weights and then trained; and the one whose masks are learned in the first two fifths. mAP 50-95 on test
pictures that are read once. Then the file is read by `YOLO("model.onnx")`, whose boxes must be those of ONNX
Runtime alone. Latency is as the profile of a Raspberry Pi 4 predicts it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import dtp_edge as dtp
from benchmarks.composed import scenes
from benchmarks.experiments import EXPERIMENTS
from benchmarks.tasks import one_shot
from dtp_edge.training import Recipe, load_data, open_session, train_base
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


def run(name: str, folder: Path, cifar10: str, seed: int, base: int, steps: int) -> dict[str, Any]:
    """Return the row of one network; what it wrote lies in `folder`."""
    began, place = time.process_time(), folder / "scenes"
    if not (place / "data.yaml").is_file():
        scenes.write(place, cifar10, COUNTS, size=SIZE)
    data = load_data(f"yolo:{place / 'data.yaml'}", SIZE, workers=0)
    torch.manual_seed(seed)
    model, example, _ = resolve_model(
        f"ultralytics:{name}", num_classes=data.num_classes, input_shape=(3, SIZE, SIZE)
    )
    epoch = len(data.train) / RECIPE.batch_size
    lengths = {"mask_epochs": 0.4 * steps / epoch, "tune_epochs": 0.6 * steps / epoch}
    recipe = replace(RECIPE, seed=seed, base_epochs=base / epoch, **lengths)
    kept = folder / f"base-{name}-{seed}-{base}"  # a stopped run goes on from here
    train_base(model, open_session(data, recipe, network=model, checkpoint_dir=kept, resume=kept.is_dir()))
    print(f"{name} {seed}: base trained", flush=True)
    seconds = {"base": round(time.process_time() - began)}
    recipe = replace(recipe, base_epochs=0.0)
    at_once = _once(
        kept / f"one-shot-{steps}.json",
        lambda: one_shot(copy.deepcopy(model), example, data, replace(recipe, tune_epochs=steps / epoch)),
    )
    print(f"{name} {seed}: {at_once}", flush=True)
    seconds["one_shot"] = round(time.process_time() - began - seconds["base"])
    result = dtp.prune_for_device(
        model,
        example,
        device=DEVICE,
        budget=dtp.Budget(latency=LATENCY),
        data=data,
        recipe=recipe,
        seed=seed,
        depth=False,
        out=(out := folder / f"{name}-{seed}-{base}-{steps}"),
        resume=(out / "checkpoint").is_dir(),
        force=True,
    )
    seconds["learned_and_control"] = round(time.process_time() - began - sum(seconds.values()))
    found = result.report["accuracy"]
    return {
        "network": name,
        "seed": seed,
        "steps": [base, steps],
        "pictures": len(data.train),
        "size": SIZE,
        **{key: found.get(key) for key in ("base", "control", "at_cut", "pruned", "n_test")},
        **at_once,
        "class_kept": type(result.module).__name__,
        "yolo_boxes": read_by_yolo(Path(str(result.onnx)), place),
        "cpu_seconds": seconds,
    }


def _once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a stopped run wrote to `file`, or make and write it."""
    if not file.is_file():
        file.write_text(json.dumps(make()))
    return json.loads(file.read_text())


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
    rows = {(row["network"], row["seed"], *row["steps"]): row for row in YOLO.read()}
    lines = [
        "# Ultralytics' detectors",
        "",
        *about.splitlines(),
        "",
        f"Budget: {LATENCY} of the dense latency on {DEVICE}, {SIZE} x {SIZE} pixels. mAP 50-95 in percent; "
        "only channels go, no branches.",
        "",
        "| network | base | dense control | at once: cut, trained | learned: cut, trained | steps |"
        " pictures | class kept | same boxes in YOLO | CPU s (learned, control) | date, machine, commit |",
        "|" + "---|" * 11,
        *(_line(row) for row in rows.values()),
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    share = {key: f"{100 * row[key]:.1f}" for key in ("base", "control", "at_cut", "pruned", "one_shot")}
    boxes = row["yolo_boxes"]
    cells = [
        f"{row['network']}, seed {row['seed']}",
        share["base"],
        share["control"],
        f"{100 * row['one_shot_at_cut']:.1f}, {share['one_shot']}",
        f"{share['at_cut']}, {share['pruned']}",
        " + ".join(map(str, row["steps"])),
        f"{row['pictures']}, {row['n_test']} to test",
        row["class_kept"],
        f"{boxes.get('boxes', 0)} boxes: {'yes' if boxes['same'] else 'no'}",
        row["cpu_seconds"]["learned_and_control"],
        f"{row['date']}, {row['machine']}, {row['commit']}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


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
    args = parser.parse_args()
    for name in args.networks.split(","):
        for seed in map(int, args.seeds.split(",")):
            row = run(name, args.folder, args.cifar10, seed, args.base, args.steps)
            YOLO.append(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
