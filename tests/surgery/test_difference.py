"""How far apart two outputs are: each by its own scale, with the rounding that its function has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.onnx.bounded import bounded_outputs
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error


def detections() -> np.ndarray:
    boxes = np.random.default_rng(0).uniform(0, 320, (1, 4, 50))
    scores = np.random.default_rng(1).uniform(0, 1, (1, 3, 50))
    return np.concatenate([boxes, scores], 1)


@pytest.mark.parametrize("rows_last", [False, True])
def test_a_box_does_not_hide_a_score(rows_last: bool) -> None:
    right = detections()
    wrong = right.copy()
    wrong[0, 5, 7] += 0.03
    if rows_last:
        right, wrong = right.swapaxes(1, 2), wrong.swapaxes(1, 2)
    assert np.abs(right - wrong).max() / np.abs(right).max() < FLOAT32_LIMIT
    assert relative_error([right], [wrong]) > FLOAT32_LIMIT
    assert relative_error([right], [right * (1 + 1e-6)]) < FLOAT32_LIMIT


def test_each_tensor_is_judged_by_its_own_scale() -> None:
    large, small = np.full((1, 4), 1000.0), np.full((1, 4), 1e-3)
    assert relative_error([large, small], [large, small * 1.5]) == pytest.approx(0.5)


def test_bounded_outputs_may_round_and_no_more() -> None:
    right = np.full((1, 1, 4, 4), 2e-9)
    assert relative_error([right], [right + 1.3e-7]) > 1
    assert relative_error([right], [right + 1.3e-7], bounded=[True]) == 0
    assert relative_error([right], [right + 1e-3], bounded=[True]) > 1


def test_which_outputs_are_bounded_is_read_from_the_file() -> None:
    node = helper.make_node
    nodes = [
        node("Sigmoid", ["x"], ["s"]), node("Reshape", ["s", "shape"], ["a"]),
        node("Relu", ["x"], ["b"]), node("Mul", ["s", "x"], ["c"]),
    ]  # fmt: skip
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xabc"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    assert bounded_outputs(model) == [True, False, False]


def test_a_probability_map_near_zero_is_delivered(tmp_path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid()).eval()
    nn.init.constant_(module[2].bias, -20.0)
    x = torch.randn(1, 3, 16, 16)
    assert check_onnx(export_onnx(module, x, tmp_path / "a.onnx"), module, x).passed
    nn.init.constant_(module[2].bias, -5.0)
    assert not check_onnx(tmp_path / "a.onnx", module, x).passed
