"""What is wrong in a user's own objective, data or collate is told before training, with its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dtp_edge import cli

Call = Callable[..., tuple[int, str, str]]

SOURCE = """
import torch
from torch import nn
from dtp_edge.training import DataSource, Headline, Objective
from dtp_edge.training.data.dataset_split import DatasetSplit


def build():
    net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
    return net, torch.zeros(1, 6)


class Error:
    def __init__(self): self.total, self.count = 0.0, 0

    def update(self, outputs, batch):
        self.total += float((outputs - batch["y"]).abs().sum())
        self.count += len(outputs)

    def compute(self): return self.total / self.count


class Own(Objective):
    headline = Headline("error", "mm", higher_is_better=False)

    def inputs(self, batch): return batch["x"]

    def loss(self, outputs, batch):
        return (outputs - batch["y"]).square().mean()

    def metric(self): return Error()


def stack(samples):
    return {"x": torch.stack([s[0] for s in samples]), "y": torch.stack([s[1] for s in samples])}


def rows(size=6, wanted=2):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(size, generator=draw), torch.randn(wanted, generator=draw)) for _ in range(40)]


def source(found, collate=stack):
    parts = [torch.arange(40)[a:b] for a, b in ((16, 40), (0, 8), (8, 16))]
    return DataSource("rows", None, (), (), (), *(DatasetSplit(found, p, collate=collate) for p in parts))


def good(): return source(rows())

"""

CASES = {
    "a loss of NaN": (
        """
class Bad(Own):
    def loss(self, outputs, batch):  # here
        return super().loss(outputs, batch) * float("nan")
""",
        "the loss of the first batch is nan",
    ),
    "a loss that raises": (
        """
class Bad(Own):
    def loss(self, outputs, batch):
        return batch["lost"]  # here
""",
        "loss of the objective Bad failed: KeyError: 'lost'",
    ),
    "a loss for each sample": (
        """
class Bad(Own):
    def loss(self, outputs, batch):  # here
        return (outputs - batch["y"]).square().mean(1)
""",
        "the loss is a tensor [8], not one number",
    ),
    "a loss without a gradient": (
        """
class Bad(Own):
    def loss(self, outputs, batch):  # here
        return super().loss(outputs, batch).detach()
""",
        "no gradient flows from the loss to the network",
    ),
    "a metric that raises": (
        """
class Worse(Error):
    def update(self, outputs, batch):
        raise RuntimeError("out of order")  # here


class Bad(Own):
    def metric(self): return Worse()
""",
        "metric of the objective Bad failed: RuntimeError: out of order",
    ),
    "a metric that is no number": (
        """
class Worse(Error):
    def compute(self):  # here
        return float("nan")


class Bad(Own):
    def metric(self): return Worse()
""",
        "the metric (error) is not a number",
    ),
    "inputs that raise": (
        """
class Bad(Own):
    def inputs(self, batch):
        return batch["image"]  # here
""",
        "inputs of the objective Bad failed: KeyError: 'image'",
    ),
    "a target that does not fit": (
        """
Bad = Own


def data():
    return source(rows(wanted=3))


# the error comes of: return (outputs - batch["y"]).square().mean()
""",
        "loss of the objective Own failed: RuntimeError: The size of tensor",
    ),
    "ragged tensors": (
        """
Bad = Own


def data():
    found = rows()
    found[20] = (torch.zeros(5), found[20][1])
    return source(found)


# the error comes of: return {"x": torch.stack([s[0] for s in samples])
""",
        "making a batch of",
    ),
    "inputs that the network cannot read": (
        """
Bad = Own


def data():
    return source(rows(size=7))
""",
        "the network cannot read a batch of the data ([8, 7])",
    ),
    "no objective": (
        """
def Bad(): return 3
""",
        "Bad() returned int",
    ),
}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(cli.cli, list(arguments), "dtp-edge")
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("name", CASES)
def test_it_is_told_with_file_and_line(name: str, tmp_path: Path, call: Call) -> None:
    tail, words = CASES[name]
    text = SOURCE + tail
    (tmp_path / "own.py").write_text(text)
    data = "data" if "def data" in tail else "good"
    code, _, err = call(
        "prune", "own.py:build", "--device", "rpi4-ncnn-fp32-1t", "--macs", "60%", "--data", f"own.py:{data}",
        "--objective", "own.py:Bad", "--set", "batch_size=8", "--set", "base_epochs=1", "--out", "out",
    )  # fmt: skip
    flat = " ".join(err.split())
    assert code == 2, err
    assert words in flat
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "report.json").exists()
    comes = next((line for line in tail.splitlines() if "comes of: " in line), None)
    marked = comes.partition("comes of: ")[2] if comes else "# here"
    lines = [i + 1 for i, line in enumerate(text.splitlines()) if marked in line and "comes of" not in line]
    if comes or "# here" in tail:
        found = re.search(r"own\.py, line (\d+)", flat)
        assert found, flat
        assert int(found[1]) == lines[-1]


def test_an_objective_without_data_and_one_that_there_is_not(call: Call) -> None:
    asked = ("prune", "resnet8", "--device", "rpi4-ncnn-fp32-1t", "--macs", "60%", "--objective")
    code, _, err = call(*asked, "regression")
    assert (code, "--objective needs --data" in err) == (2, True)
    code, _, err = call(*asked, "detektion", "--data", "digits")
    assert code == 2
    assert "detection" in err


def test_a_network_that_is_no_classifier_is_told_of_objectives(tmp_path: Path, call: Call) -> None:
    tail = """
def image():
    net = nn.Conv2d(1, 4, 3)
    return nn.Sequential(net, nn.Conv2d(4, 4, 3)), torch.zeros(1, 1, 32, 32)
"""
    (tmp_path / "own.py").write_text(SOURCE + tail)
    code, _, err = call(
        "prune", "own.py:image", "--device", "rpi4-ncnn-fp32-1t", "--macs", "60%", "--data", "digits"
    )
    assert code == 2
    assert "--objective" in err
