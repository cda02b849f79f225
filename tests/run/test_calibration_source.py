"""Calibration inputs of every kind of data, as the network, or the whole around a part, is called."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_sets
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.run.calibration_set import calibration_set
from dtp_edge.training import load_inputs

DEVICE = "rpi4-ncnn-fp32-1t"


def layers(*sizes: int) -> nn.Module:
    torch.manual_seed(0)
    found: list[nn.Module] = []
    for one, two in itertools.pairwise(sizes):
        found += [nn.Linear(one, two), nn.ReLU()]
    return nn.Sequential(*found[:-1])


def convolutions(channels: int, out: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, out, 1),
    )  # fmt: skip


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.body = nn.Embedding(16, 24), layers(24, 32, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.body(self.words(input_ids) * attention_mask[..., None])


def table(folder: Path) -> tuple[str, nn.Module, Any]:
    lines = [f"{i % 7},{(i * 3) % 11},{'ab'[(i % 7) > 3]}" for i in range(120)]
    (folder / "t.csv").write_text("x,y,label\n" + "\n".join(lines) + "\n")
    return f"csv:{folder / 't.csv'}", layers(2, 32, 32, 2), torch.randn(1, 2)


def arrays(folder: Path) -> tuple[str, nn.Module, Any]:
    x = np.random.default_rng(0).integers(0, 256, (90, 3, 8, 8), dtype=np.uint8)
    np.savez(folder / "a.npz", x=x, y=255 - x)
    return f"npz:{folder / 'a.npz'}", convolutions(3, 3), torch.randn(1, 3, 8, 8)


def digits(folder: Path) -> tuple[str, nn.Module, Any]:
    pytest.importorskip("sklearn")
    return "digits", convolutions(1, 3), torch.randn(1, 1, 32, 32)


def recordings(folder: Path) -> tuple[str, nn.Module, Any]:
    pytest.importorskip("soundfile")
    pytest.importorskip("torchaudio", exc_type=Exception)
    small_sets.wavfolder(folder / "wav", count=40)
    return f"wavfolder:{folder / 'wav'}", convolutions(1, 2), torch.randn(1, 1, 49, 40)


def masks(folder: Path) -> tuple[str, nn.Module, Any]:
    pytest.importorskip("torchvision", exc_type=Exception)
    rng = np.random.default_rng(0)
    for i in range(60):
        small_sets.write_png(
            folder / "images" / f"{i:03}.png", rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        )
        small_sets.write_png(folder / "masks" / f"{i:03}.png", np.full((16, 16), i % 3, np.uint8))
    return f"segfolder:{folder}", convolutions(3, 3), torch.randn(1, 3, 16, 16)


def tokens(folder: Path) -> tuple[str, nn.Module, Any]:
    datasets = pytest.importorskip("datasets")
    rng, rows = np.random.default_rng(0), []
    for _ in range(80):
        ids = rng.integers(1, 12, rng.integers(3, 9)).tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [i % 3 for i in ids]})
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "a"))
    ids = torch.randint(1, 12, (1, 8))
    return f"hf:{folder / 'a'}", Tagger(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


MORE = pytest.mark.more
KINDS = [table, arrays, digits, pytest.param(recordings, marks=MORE), pytest.param(masks, marks=MORE),
         pytest.param(tokens, marks=MORE)]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_data_calibrates(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    spec, net, example = kind(tmp_path)
    size = example.shape[-1] if isinstance(example, Tensor) and example.dim() == 4 else None
    found = dtp.prune_for_device(
        net, example, device=DEVICE, budget=dtp.Budget(params="60%"), images=64,
        calibrate=load_inputs(spec, size, 0),
    )  # fmt: skip
    report = found.report
    assert 16 <= report["calibration"]["samples"] + report["calibration"]["held_out"] <= 96
    assert report["calibration"]["output_error"] < 0.9
    assert report["run"]["data"] == spec.partition(":")[0]
    assert any(kept < total for kept, total in found.widths.values())


def test_the_seed_draws_other_samples_of_a_source(tmp_path: Path) -> None:
    spec, net, example = table(tmp_path)
    network, data = trace_network(net, (example,)), load_inputs(spec)
    one, same, other = (
        torch.cat([x for (x,) in calibration_set(data, network, images=20, seed=seed).fitted])
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_fixed_batch_reads_whole_batches_only(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu().reshape(7, 8))

    spec, _, _ = table(tmp_path)
    network = trace_network(Fixed(), (torch.randn(7, 2),))
    assert not network.dynamic_batch
    found = calibration_set(load_inputs(spec), network, images=40)
    assert {len(x) for (x,) in (*found.fitted, *found.held_out)} == {7}
    assert any("5 of 40 calibration inputs have other sizes" in text for text in found.warnings)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 12, 3, padding=1)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> dict[str, Tensor]:
        y = self.first(x).relu()
        return {"y": self.second(y if gain is None else y * gain).relu()}


class Detector(nn.Module):
    """Takes pictures of any size and keeps the best rows by their score: it cannot be traced."""

    def __init__(self, side: int | None = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.side = Body(), nn.Linear(12, 5), side

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        size = (self.side, self.side) if self.side else images[0].shape[1:]
        x = torch.stack([nn.functional.interpolate(i[None], size)[0] for i in images])
        rows = self.head(self.body(x, gain=x.new_tensor(2.0))["y"].flatten(2).transpose(1, 2))
        return [row[row[:, 0] > row[:, 0].mean()] for row in rows]


def pictures(count: int) -> list[Tensor]:
    return [torch.rand(3, 12 + i % 5, 20) for i in range(count)]


def pruned(net: nn.Module, batches: Any, **options: Any) -> dtp.PruneResult:
    given: dict[str, Any] = {"device": DEVICE, "budget": dtp.Budget(latency="60%")}
    return dtp.prune_for_device(net, (pictures(2),), part="body", calibrate=batches, **given | options)


def test_a_part_is_calibrated_on_what_the_whole_gives_it(tmp_path: Path) -> None:
    net = Detector().eval()
    result = pruned(net, [(pictures(8), "labels")] * 3 + [{"images": pictures(8)}] * 3, out=tmp_path / "r")
    plain = dtp.prune_for_device(
        net, (pictures(2),), part="body", device=DEVICE, budget=dtp.Budget(latency="60%")
    )
    assert type(result.module) is Detector
    found = result.report["calibration"]
    assert (found["samples"], found["held_out"], found["agreement"]) == (40, 8, None)
    new = torch.stack([nn.functional.interpolate(i[None], (16, 16))[0] for i in pictures(16)])
    with torch.no_grad():
        gain = torch.tensor(2.0)
        wanted = net.body(new, gain)["y"]
        errors = [float((r.module.body(new, gain)["y"] - wanted).square().mean()) for r in (result, plain)]
    assert errors[0] < 0.5 * errors[1]
    loaded = dtp.load_pruned(tmp_path / "r", whole=Detector()).eval()
    for one, two in zip(loaded([new[0]]), result.module.eval()([new[0]]), strict=True):
        torch.testing.assert_close(one, two)


def test_int8_of_a_part_reads_the_parts_inputs(tmp_path: Path) -> None:
    result = pruned(
        Detector().eval(), [(pictures(8),)] * 6, out=tmp_path / "r", int8=True,
        device="stm32h747-cubeai-int8", budget=dtp.Budget(macs="60%"),
    )  # fmt: skip
    assert result.onnx_int8 is not None
    assert result.onnx_int8.is_file()


def test_sizes_that_the_part_was_not_traced_with_are_said_or_refused() -> None:
    net = Detector(side=None).eval()
    batches = [([torch.rand(3, 12, 20)] * 8,)] * 6 + [([torch.rand(3, 16, 16)] * 8,)] * 2
    for batch in batches:
        batch[0][0].add_(torch.rand(1))
    batches = [([torch.rand_like(x) for x in batch],) for (batch,) in batches]
    result = pruned(net, batches)
    assert any("16 of 64 calibration inputs have other sizes" in text for text in result.report["warnings"])
    with pytest.raises(InputError, match="the network reads"):
        pruned(net, batches[-2:])


def test_what_the_whole_cannot_take_is_told_with_what_to_do() -> None:
    with pytest.raises(InputError, match="does not run on the calibration inputs") as caught:
        pruned(Detector().eval(), [(3,)] * 20)
    assert caught.value.hint


@pytest.mark.more
def test_torchvisions_detector_is_calibrated_by_its_backbone(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", exc_type=Exception)
    torch.manual_seed(0)
    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    net.transform.fixed_size = (64, 64)
    data = load_inputs(f"coco:{small_sets.coco(tmp_path / 'coco', count=40)}", 64, 0)
    result = dtp.prune_for_device(
        net, ([torch.rand(3, 64, 64)],), part="backbone", device=DEVICE, budget=dtp.Budget(params="80%"),
        calibrate=data, depth=False,
    )  # fmt: skip
    assert result.report["run"]["data"] == "coco"
    assert result.report["calibration"]["held_out"] >= 4
