"""torchvision's detectors, which no trace can hold: their backbone is cut, put back and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dtp_edge as dtp

pytestmark = pytest.mark.more


@pytest.mark.timeout(900)
def test_ssdlite320(tmp_path: Path) -> None:
    detection = pytest.importorskip("torchvision.models.detection", exc_type=Exception)
    import onnxruntime

    torch.manual_seed(0)
    build: Any = detection.ssdlite320_mobilenet_v3_large
    model = build(weights=None, weights_backbone=None, num_classes=11, score_thresh=0.05).eval()
    images = ([torch.rand(3, 200, 240)],)
    budget = dtp.Budget(latency="60%")
    result = dtp.prune_for_device(
        model, images, device="rpi4-ncnn-fp32-1t", budget=budget, part="backbone", out=tmp_path / "ssd"
    )
    found, wanted = result.module.eval()(*images)[0], result.masked.eval()(*images)[0]
    assert len(found["boxes"]) == len(wanted["boxes"]) > 0
    torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=1e-3, atol=1e-2)
    assert type(result.module) is type(model)
    assert result.report["model"]["part"] == "backbone"

    session = onnxruntime.InferenceSession(str(result.onnx))
    x = torch.rand(1, 3, 320, 320)
    maps = [y.detach().numpy() for y in result.module.backbone(x).values()]
    for one, two in zip(session.run(None, {session.get_inputs()[0].name: x.numpy()}), maps, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3 * float(np.abs(two).max()))

    targets = [{"boxes": torch.tensor([[10.0, 10.0, 90.0, 120.0]]), "labels": torch.tensor([3])}]
    losses = result.module.train()(images[0] * 2, targets * 2)  # other batches, and it trains
    sum(losses.values()).backward()
    assert result.module.head.classification_head.module_list[0][1].weight.grad is not None
