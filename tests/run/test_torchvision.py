"""A network of torchvision, start to finish, and its file in the other runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.runtimes import check_runtimes

pytestmark = pytest.mark.more
RUNTIMES = ("openvino", "tract", "ncnn", "mnn")


def test_a_torchvision_network_is_pruned_and_every_runtime_agrees(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", exc_type=Exception)
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as a trained network has them, not 0 and 1
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    x = torch.randn(1, 3, 64, 64)
    result = dtp.prune_for_device(
        model.eval(),
        x,
        device="rpi4-ncnn-fp32-1t",
        budget=dtp.Budget(latency="60%"),
        out=str(tmp_path / "run"),
    )
    assert all(check["passed"] for check in result.report["checks"])
    (latency,) = [row for row in result.report["budgets"] if row["metric"] == "latency_ms"]
    assert latency["pruned_predicted"] <= latency["limit"]
    assert torch.allclose(result.module(x), result.masked(x), rtol=1e-3, atol=1e-4)
    rows = check_runtimes(tmp_path / "run" / "model.onnx", list(RUNTIMES))
    assert {row.runtime: (row.status, row.detail) for row in rows} == dict.fromkeys(RUNTIMES, ("ok", ""))
