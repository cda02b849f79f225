"""One call, every box: the result is compact, equal, within budget, and loads back without this run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import BudgetError, CheckError, InputError, UnsupportedError
from dtp_edge.proof import Check
from dtp_edge.run import proved
from dtp_edge.zoo import create

DEVICE = "rpi4-ncnn-fp32-1t"


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_(0, 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dtp.PruneResult]:
    model = randomise(create("resnet8"))
    budget = dtp.Budget(latency="70%", flash="150KiB")
    out = tmp_path_factory.mktemp("runs") / "r8"
    return model, dtp.prune_for_device(
        model, torch.randn(1, 3, 32, 32), device=DEVICE, budget=budget, out=out
    )


def test_module_masked_and_onnx_compute_the_same(run) -> None:
    _, result = run
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        compact, masked = result.module.eval()(x), result.masked.eval()(x)
    session = ort.InferenceSession(str(result.onnx))
    onnx_out = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    scale = compact.abs().max()
    assert (compact - masked).abs().max() <= 1e-4 * scale
    assert np.abs(compact.numpy() - onnx_out).max() <= 1e-4 * float(scale)
    assert sum(p.numel() for p in result.module.parameters()) < sum(
        p.numel() for p in result.masked.parameters()
    )


def test_the_users_model_is_untouched(run) -> None:
    model, _ = run
    again = randomise(create("resnet8"))
    for (name, a), (_, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_kept_indices_repeat_the_surgery_by_hand(run) -> None:
    model, result = run
    compact = result.module.state_dict()
    for name, tensor in model.state_dict().items():
        for dim, kept in result.kept.get(name, {}).items():
            tensor = tensor.index_select(dim, torch.tensor(kept))
        assert torch.equal(tensor, compact[name]), name
    assert any(result.kept.values())


def test_every_budget_holds_and_is_reported(run) -> None:
    _, result = run
    rows = {row["metric"]: row for row in result.report["budgets"]}
    for metric in ("latency_ms", "flash_bytes"):
        assert rows[metric]["fits"] is True
        assert rows[metric]["pruned_predicted"] <= rows[metric]["limit"]
    assert rows["macs"]["fits"] is None
    assert {"model.onnx", "model.safetensors", "widths.json", "report.json", "report.html"} <= {
        p.name for p in result.out.iterdir()
    }
    assert json.loads((result.out / "report.json").read_text())["budgets"] == result.report["budgets"]


def test_it_loads_back_in_a_fresh_process(run, tmp_path: Path) -> None:
    _, result = run
    x = torch.randn(2, 3, 32, 32)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import torch, dtp_edge as dtp, sys; m = dtp.load_pruned(sys.argv[1]).eval(); "
        "torch.save(m(torch.load(sys.argv[2], weights_only=True)).detach(), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, str(result.out), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    subprocess.run(command, check=True)
    with torch.no_grad():
        expected = result.module.eval()(x)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt", weights_only=True), expected)


def test_a_failed_proof_stops_the_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args, **kwargs):
        return Check("masked == compact", False, 1.0, 1e-4, "made to fail")

    monkeypatch.setattr(proved, "check_masked_equals_compact", wrong)
    with pytest.raises(CheckError, match="masked == compact"):
        dtp.prune_for_device(
            create("resnet8"),
            torch.randn(1, 3, 32, 32),
            device=DEVICE,
            budget=dtp.Budget(latency="70%"),
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_refusals_come_before_any_work(tmp_path: Path) -> None:
    model, x = create("resnet8"), torch.randn(1, 3, 32, 32)
    with pytest.raises(BudgetError) as refused:
        dtp.prune_for_device(model, x, device=DEVICE, budget=dtp.Budget(latency="1%"), out=tmp_path / "run")
    assert {"metric", "asked", "smallest", "dense"} <= set(refused.value.rows[0])
    with pytest.raises(UnsupportedError, match="int8"):
        dtp.prune_for_device(model, x, device=DEVICE, budget=dtp.Budget(latency="70%"), int8=True)
    model.conv1.weight.data[0] = float("nan")
    with pytest.raises(InputError, match=r"conv1\.weight"):
        dtp.prune_for_device(model, x, device=DEVICE, budget=dtp.Budget(latency="70%"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("budget", [{"keep": 0.5}, {"layer_keep": {"blocks.0.conv1": 0.5}}])
def test_the_papers_budgets_reach_the_end(budget: dict) -> None:
    result = dtp.TransportPruner(
        create("resnet8"),
        torch.randn(1, 3, 32, 32),
        device=DEVICE,
        budget=dtp.Budget(**budget),
        total_steps=2,
    ).finish()
    kept, total = (sum(w) for w in zip(*result.widths.values(), strict=True))
    assert 0 < kept < total
    if "keep" in budget:
        assert kept <= 0.5 * total
    else:
        assert result.widths["blocks.0.conv1"] == (8, 16)
