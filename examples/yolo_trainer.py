"""Prune a YOLO detector, then go on in Ultralytics' own trainer, validator and exporter.

    pip install "dtp-edge[ultralytics]"
    python examples/yolo_trainer.py --network best.pt --data data.yaml --image-size 640 --epochs 50

The cut here is one-shot: widths by the weights, no training. To learn the masks instead, give
`prune_for_device` `data="yolo:data.yaml"` and a recipe.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

import dtp_edge as dtp


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="yolo11n.yaml", help="your own checkpoint, or a yaml")
    parser.add_argument("--data", required=True, help="Ultralytics' DATA.yaml")
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="60%")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/yolo"))
    options = parser.parse_args()

    yolo = YOLO(options.network, task="detect")
    size = options.image_size
    result = dtp.prune_for_device(
        yolo.model.float().eval(),
        torch.rand(1, 3, size, size),
        device=options.device,
        budget=dtp.Budget(latency=options.latency),
        out=options.out / "pruned",
        force=True,
    )
    left = result.report["model"]["pruned_parameters"]
    print(f"pruned: a {type(result.module).__name__}, {left} parameters")

    class Trainer(DetectionTrainer):
        """Its own would build the dense network anew, from the yaml."""

        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            return result.module

    common = {"data": options.data, "imgsz": size, "device": "cpu", "workers": 0, "plots": False}
    common |= {"verbose": False}
    where = {"project": str(options.out.absolute()), "name": "on"}
    yolo.train(trainer=Trainer, epochs=options.epochs, **where, **common)
    trained = YOLO(options.out / "on/weights/last.pt")  # Ultralytics' own checkpoint of it
    print(f"trained on: {sum(p.numel() for p in trained.model.parameters())} parameters")
    print(f"mAP 50-95 {trained.val(**common).box.map:.3f}")
    print("exported", trained.export(format="onnx", imgsz=size, simplify=False, opset=18, verbose=False))


if __name__ == "__main__":
    main()
