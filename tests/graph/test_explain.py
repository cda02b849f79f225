"""A network that cannot be traced: one sentence, the user's own line, what to do, and nothing of torch's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from dtp_edge import cli
from dtp_edge.errors import UnsupportedError
from dtp_edge.graph import trace_network

SOURCE = """\
import sys

import torch
from torch import nn


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def tail(self, x):
        return self.last(x).mean((2, 3))


class Branch(Base):
    def forward(self, x):
        x = self.first(x)
        if x.sum() > 0:  # BRANCH
            x = 2 * x
        return self.tail(x)


class Item(Base):
    def forward(self, x):
        x = self.first(x)
        rows = int(x.abs().max().item()) + 1  # ITEM
        return self.tail(x[:, :, :rows])


@torch.library.custom_op("explain::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Custom(Base):
    def forward(self, x):
        x = twice(self.first(x))  # CUSTOM
        return self.tail(x)


class Numpy(Base):
    def forward(self, x):
        x = torch.from_numpy(self.first(x).detach().numpy())  # NUMPY
        return self.tail(x)


class Misspelt(Base):
    def forward(self, x):
        return self.tial(self.first(x))  # MISSPELT


class Chatty(Base):
    def forward(self, x):
        print("the user's own words", file=sys.stderr)
        return self.tail(self.first(x))


def branch():
    return Branch(), torch.zeros(1, 3, 16, 16)
"""
WORDS = {
    "Branch": "takes a number out of a tensor",
    "Item": "takes a number out of a tensor",
    "Custom": "an operator that torch.export cannot follow",
    "Numpy": "an operator that torch.export cannot follow",
    "Misspelt": "does not run on its example inputs [1, 3, 16, 16]: AttributeError",
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("networks") / "untraceable.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("untraceable", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WORDS)
def test_the_error_names_the_users_line(networks: Any, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        trace_network(getattr(networks, name)(), torch.zeros(1, 3, 16, 16))
    line = next(i for i, text in enumerate(SOURCE.splitlines(), 1) if f"# {name.upper()}" in text)
    assert caught.value.where is not None
    assert f"untraceable.py, line {line}, in forward (" in caught.value.where
    assert WORDS[name] in caught.value.what
    assert name in caught.value.what
    assert caught.value.hint
    assert capfd.readouterr().err == ""


def test_inputs_that_do_not_fit_are_said_to_be_the_cause(networks: Any) -> None:
    with pytest.raises(
        UnsupportedError, match=r"does not run on its example inputs \[1, 4, 16, 16\]"
    ) as caught:
        trace_network(networks.Chatty(), torch.zeros(1, 4, 16, 16))
    assert "--input-shape" in str(caught.value.hint)


def test_what_the_network_says_itself_is_not_swallowed(
    networks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trace_network(networks.Chatty(), torch.zeros(1, 3, 16, 16))
    assert "the user's own words" in capsys.readouterr().err


def test_the_command_prints_one_error(
    networks: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(networks.__file__).parent)
    words = ["prune", "untraceable.py:branch", "--device", "rpi4-ncnn-fp32-1t", "--latency", "60%", "--plan"]
    assert cli.run(cli.cli, words, "dtp-edge") == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("error: untraceable.py, line 19, in forward (if x.sum() > 0:")
    assert len(lines) < 10
    assert sum(line.startswith("next:") for line in lines) == 1
