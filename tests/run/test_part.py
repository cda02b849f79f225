"""Pruning a part: the whole computes the same with it, and the folder gives all of it back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.run import proved

DEVICE = "rpi4-ncnn-fp32-1t"
IMAGES = ([torch.rand(3, 16, 16), torch.rand(3, 12, 20)],)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 12, 3, padding=1)
        self.norm, self.out_channels = nn.BatchNorm2d(24), 12

    def forward(self, x: Tensor, gain: Tensor | None = None) -> dict[str, Tensor]:
        y = self.norm(self.first(x)).relu()
        return {"y": self.second(y if gain is None else y * gain).relu()}


class Detector(nn.Module):
    """Takes images of any size and keeps the best rows by their score: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = Body(), nn.Linear(12, 5)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        x = torch.stack([nn.functional.interpolate(i[None], (16, 16))[0] for i in images])
        y = self.body(x, gain=x.new_tensor(2.0))["y"]
        if y.shape[1] != self.body.out_channels:
            raise ValueError("another body")
        rows = self.head(y.flatten(2).transpose(1, 2))
        return [row[row[:, 0] > row[:, 0].mean()] for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dtp.PruneResult]:
    model, out = Detector().eval(), tmp_path_factory.mktemp("runs") / "part"
    budget = dtp.Budget(latency="60%")
    return model, dtp.prune_for_device(model, IMAGES, device=DEVICE, budget=budget, part="body", out=out)


def test_the_whole_cannot_be_traced() -> None:
    with pytest.raises(UnsupportedError, match="--part NAME"):
        dtp.prune_for_device(Detector(), IMAGES, device=DEVICE, budget=dtp.Budget(latency="60%"))


def test_the_whole_with_the_compact_part_is_the_masked_whole(run) -> None:
    model, result = run
    assert type(result.module) is type(result.masked) is Detector
    assert result.module.body.first.weight.shape[0] < 24
    assert result.module.head.weight.shape == (5, 12)
    for one, two in zip(result.module.eval()(*IMAGES), result.masked.eval()(*IMAGES), strict=True):
        torch.testing.assert_close(one, two)
    assert torch.equal(model.body.first.weight, Detector().body.first.weight)


def test_the_file_is_the_part(run) -> None:
    _, result = run
    session = ort.InferenceSession(str(result.onnx))
    assert [i.name for i in session.get_inputs()] == ["x", "gain"]
    x, gain = torch.rand(1, 3, 16, 16), torch.tensor(2.0)
    wanted = result.module.body(x, gain)["y"].detach().numpy()
    found = session.run(None, {"x": x.numpy(), "gain": gain.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert {c["name"] for c in result.report["checks"]} >= {
        "the whole == with its traced part",
        "the whole, masked == compact",
    }
    assert result.report["model"]["part"] == "body"
    assert result.report["model"]["rest_parameters"] == 65
    assert any("only body" in text for text in result.report["warnings"])


def test_the_folder_gives_the_whole_back(run) -> None:
    _, result = run
    anew = Detector()
    with torch.no_grad():
        for p in anew.parameters():
            p.add_(1)
    loaded = dtp.load_pruned(result.out, whole=anew).eval()
    for one, two in zip(loaded(*IMAGES), result.module.eval()(*IMAGES), strict=True):
        torch.testing.assert_close(one, two)
    anew.head = nn.Linear(12, 6)
    with pytest.raises(InputError, match=r"head.weight is \[6, 12\], the file has it as \[5, 12\]"):
        dtp.load_pruned(result.out, whole=anew)
    (result.out / "rest.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a safetensors file"):
        dtp.load_pruned(result.out, whole=Detector())


def test_an_own_loop_trains_all_of_it() -> None:
    model = Detector()
    budget = dtp.Budget(latency="60%")
    pruner = dtp.TransportPruner(model, IMAGES, device=DEVICE, budget=budget, total_steps=6, part="body")
    pruner.train()
    moved = []
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.05)
    for _ in range(6):
        loss = sum(row.square().mean() for row in pruner(*IMAGES))
        optimizer.zero_grad()
        loss.backward()
        moved.append(pruner.scores.grad is not None and bool(pruner.scores.grad.any()))
        optimizer.step()
        pruner.step()
    assert moved[0]
    result = pruner.finish()
    assert result.module.body.first.weight.shape[0] < 24
    assert not torch.equal(result.module.head.weight, model.head.weight)
    assert torch.equal(result.module.head.weight, pruner.rest.head.weight)  # type: ignore[union-attr]
    for one, two in zip(result.module.eval()(*IMAGES), pruner.eval()(*IMAGES), strict=True):
        torch.testing.assert_close(one, two)


class Counting(Detector):
    """No two of its calls are the same, though its part's are."""

    calls = itertools.count()

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [row + next(self.calls) for row in super().forward(images)]


def test_a_whole_that_answers_something_else_is_told() -> None:
    budget = dtp.Budget(latency="60%")
    with pytest.raises(CheckError, match="the rest of the network answers something else"):
        dtp.prune_for_device(Counting(), IMAGES, device=DEVICE, budget=budget, part="body")


def test_a_part_that_answers_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = proved.check_put_back

    def wrong(whole: Any, network: Any, keep: Any, result: Any) -> Any:
        with torch.no_grad():
            result.module.second.weight[0].mul_(1.5)
        return honest(whole, network, keep, result)

    monkeypatch.setattr(proved, "check_put_back", wrong)
    budget = dtp.Budget(latency="60%")
    with pytest.raises(CheckError, match="the whole, masked == compact"):
        dtp.prune_for_device(Detector(), IMAGES, device=DEVICE, budget=budget, part="body")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dtp_edge.cli import prune_main

    file = tmp_path / "net.py"
    file.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_part\n"
        "def net(): return test_part.Detector(), ([torch.rand(3, 16, 16)],)\n"
    )
    given = [f"{file}:net", "--device", DEVICE, "--latency", "60%", "--part"]
    with pytest.raises(SystemExit) as stop:
        prune_main([*given, "body", "--out", str(tmp_path / "run"), "--json"])
    assert stop.value.code == 0
    assert json.loads((tmp_path / "run/report.json").read_text())["model"]["part"] == "body"
    with pytest.raises(SystemExit) as stop:
        prune_main([*given, "bdy", "--plan"])
    assert stop.value.code == 2
    assert "Did you mean body" in capsys.readouterr().err


def test_a_sweep_of_a_part(tmp_path: Path) -> None:
    from dtp_edge.cli import prune_main

    given = ["resnet8", "--device", DEVICE, "--latency", "80%,60%", "--part", "blocks"]
    with pytest.raises(SystemExit) as stop:
        prune_main([*given, "--out", str(tmp_path / "many")])
    assert stop.value.code == 0
    cells = sorted((tmp_path / "many" / "cells").iterdir())
    parts = [json.loads((cell / "report.json").read_text())["model"]["part"] for cell in cells]
    assert parts == ["blocks", "blocks"]
