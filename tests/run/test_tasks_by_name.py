"""Runs on data by name that are no classification of images: from the spec to the report and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_sets
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.training import Recipe, load_data

DEVICE = "rpi4-ncnn-fp32-1t"
RECIPE = Recipe(batch_size=8, mask_epochs=2, tune_epochs=2, optimizer="adamw", mask_learning_rate=3e-3,
                tune_learning_rate=3e-3, recalibrate_batches=2, refit_images=16)  # fmt: skip


def pixels(classes: int, out: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, classes or out, 1),
    )  # fmt: skip


def run(net: nn.Module, example: Any, data: Any, out: Path, **more: Any) -> dict[str, Any]:
    budget = dtp.Budget(params="60%")
    result = dtp.prune_for_device(
        net, example, device=DEVICE, budget=budget, data=data, recipe=RECIPE, out=out, **more
    )
    report = json.loads((out / "report.json").read_text())
    assert any(kept < total for kept, total in result.widths.values())
    return report


def test_a_table_of_classes_needs_no_extra(tmp_path: Path) -> None:
    lines = [f"{i % 7},{(i * 3) % 11},{'ab'[(i % 7) > 3]}" for i in range(120)]
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(lines) + "\n")
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    report = run(net, torch.randn(1, 2), f"csv:{tmp_path / 't.csv'}", tmp_path / "out")
    assert report["accuracy"]["metric"] == "top-1 accuracy"
    assert report["pictures"] is None
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(InputError, match="2 classes"):
        run(net, torch.randn(1, 2), f"csv:{tmp_path / 't.csv'}", tmp_path / "other")


@pytest.mark.more
def test_masks_are_learned_and_shown(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", exc_type=Exception)
    pytest.importorskip("torchmetrics")
    folder = small_sets.segfolder(tmp_path / "seg", count=48)
    data = load_data(f"segfolder:{folder}", 16, 0)
    report = run(pixels(3), torch.randn(1, 3, 16, 16), data, tmp_path / "out")
    accuracy = report["accuracy"]
    assert (accuracy["metric"], accuracy["unit"], accuracy["higher_is_better"]) == ("mean IoU", "%", True)
    assert accuracy["control"] > 0.5  # the red says the class
    low, high = accuracy["intervals"]["pruned"]
    assert low <= accuracy["pruned"] <= high
    rows = report["pictures"]["rows"]
    assert len(rows) == 3  # of a hold-out of three
    assert all(text.startswith("data:image/jpeg;base64,") for row in rows for text in row.values())
    page = (tmp_path / "out" / "report.html").read_text()
    assert rows[0]["pruned"] in page
    with pytest.raises(InputError, match="3 classes, the network's output has 4"):
        run(pixels(4), torch.randn(1, 3, 16, 16), data, tmp_path / "other")


@pytest.mark.more
def test_an_image_becomes_another(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    x = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=255 - x)
    report = run(pixels(0), torch.randn(1, 3, 8, 8), f"npz:{tmp_path / 'a.npz'}", tmp_path / "out")
    assert (report["accuracy"]["metric"], report["accuracy"]["unit"]) == ("PSNR", "dB")
    assert report["accuracy"]["control"] > report["accuracy"]["base"]
    assert report["pictures"]["rows"]


@pytest.mark.more
def test_tokens_by_keyword(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(80):
        ids = rng.integers(1, 12, rng.integers(3, 9)).tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [i % 3 for i in ids]})
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "a"))

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(16, 24)
            self.body = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 3))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.body(self.words(input_ids) * attention_mask[..., None])

    torch.manual_seed(0)
    ids = torch.randint(1, 12, (1, 8))
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    report = run(Tagger(), example, load_data(f"hf:{tmp_path / 'a'}", workers=0), tmp_path / "out")
    assert report["accuracy"]["metric"] == "macro F1"
    assert report["accuracy"]["control"] > report["accuracy"]["base"]
    assert report["pictures"] is None


@pytest.mark.more
def test_torchvisions_detector_by_its_backbone(tmp_path: Path) -> None:
    """It cannot be traced as a whole: losses in training, boxes of any number else."""
    torchvision = pytest.importorskip("torchvision", exc_type=Exception)
    pytest.importorskip("pycocotools")
    torch.manual_seed(0)
    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    net.transform.fixed_size = (64, 64)  # in place of 320: a test has seconds
    data = load_data(f"coco:{small_sets.coco(tmp_path / 'coco', count=40)}", 64, 0)
    result = dtp.prune_for_device(
        net,
        ([torch.rand(3, 64, 64)],),
        part="backbone",
        device=DEVICE,
        budget=dtp.Budget(params="80%"),
        data=data,
        recipe=Recipe(batch_size=8, mask_epochs=1, tune_epochs=1, recalibrate_batches=1, refit_images=8),
        out=tmp_path / "out",
        depth=False,
    )
    accuracy = result.report["accuracy"]
    assert (accuracy["metric"], accuracy["n_test"]) == ("mAP 50-95", 8)
    assert 0 <= accuracy["pruned"] <= 1
    assert len(result.report["pictures"]["rows"]) >= 1
