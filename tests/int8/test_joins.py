"""Boxes in pixels and scores in 0..1 that leave a network in one tensor keep a scale each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from dtp_edge.int8 import quantise as own
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import export_onnx


class Head(nn.Module):
    def __init__(self, size: float) -> None:
        super().__init__()
        self.size, self.stem = size, nn.Conv2d(3, 8, 3, padding=1)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        found = torch.cat([self.boxes(x).sigmoid() * self.size, self.scores(x).sigmoid()], 1)
        return found.flatten(2).transpose(1, 2)


def files(folder: Path, size: float) -> tuple[Path, Path, list[np.ndarray]]:
    torch.manual_seed(0)
    source = export_onnx(Head(size).eval(), (torch.zeros(1, 3, 6, 6),), folder / "m.onnx")
    samples = [np.random.default_rng(i).normal(size=(1, 3, 6, 6)).astype(np.float32) for i in range(16)]
    return source, quantize_onnx(source, folder / "q.onnx", samples, "minmax").path, samples


def worst_score(source: Path, made: Path, samples: list[np.ndarray]) -> float:
    outputs = []
    for path in (source, made):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        outputs.append(np.concatenate([np.asarray(session.run(None, {name: x})[0]) for x in samples]))
    return float(np.abs(outputs[0] - outputs[1])[..., 4:].max())


def joined_in_int8(path: Path) -> bool:
    graph = onnx.load(str(path)).graph
    (join,) = [node for node in graph.node if node.op_type == "Concat"]
    return any(n.op_type == "QuantizeLinear" and n.input[0] in join.output for n in graph.node)


def test_scores_keep_their_steps_beside_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, made, samples = files(tmp_path, 640.0)
    assert not joined_in_int8(made)
    assert worst_score(source, made, samples) < 0.05
    monkeypatch.setattr(own, "unlike_joins", lambda *_: frozenset())
    (tmp_path / "spoilt").mkdir()
    source, spoilt, samples = files(tmp_path / "spoilt", 640.0)
    assert worst_score(source, spoilt, samples) > 0.3  # what one scale makes of them


def test_parts_of_one_size_are_joined_in_int8(tmp_path: Path) -> None:
    assert joined_in_int8(files(tmp_path, 2.0)[1])


def test_a_join_inside_the_network_stays_as_it_was(tmp_path: Path) -> None:
    """What is computed from it has weights to take sizes up."""

    class Inside(Head):
        def __init__(self) -> None:
            super().__init__(640.0)
            self.last = nn.Conv2d(6, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).relu()
            return self.last(torch.cat([self.boxes(x) * self.size, self.scores(x)], 1))

    torch.manual_seed(0)
    source = export_onnx(Inside().eval(), (torch.zeros(1, 3, 6, 6),), tmp_path / "m.onnx")
    samples = [np.random.default_rng(i).normal(size=(1, 3, 6, 6)).astype(np.float32) for i in range(8)]
    assert joined_in_int8(quantize_onnx(source, tmp_path / "q.onnx", samples, "minmax").path)
