"""Pruning by calibration end to end: inputs without labels in, a proved network and a plain word out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.calibrated_widths import _curves
from dtp_edge.run.calibration_range import odd_scale
from dtp_edge.run.calibration_samples import first_samples, in_small_batches
from dtp_edge.run.calibration_set import LEAST, affordable, calibration_set
from dtp_edge.run.output_error import compared
from dtp_edge.run.task import Task
from dtp_edge.surgery.in_context import GROWTH
from dtp_edge.surgery.moments import moments_of

DEVICE = "rpi4-ncnn-fp32-1t"


class Small(nn.Module):
    """A residual block, a depthwise and a pointwise layer, a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.c = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.d, self.last = nn.Conv2d(16, 20, 1), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.b(self.a(x)) + x)
        return self.last(self.d(self.c(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    """Random weights whose batch norms know the inputs' statistics, as training would leave them."""
    torch.manual_seed(0)
    net, x = Small(), torch.randn(96, 3, 12, 12)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None
    with torch.no_grad():
        net.train()(x)
    return net.eval(), x


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> dtp.PruneResult:
    net, x = trained
    out = tmp_path_factory.mktemp("runs") / "small"
    return dtp.prune_for_device(
        net, x[:1], device=DEVICE, budget=dtp.Budget(macs="60%"), calibrate=list(x.split(16)), out=out
    )


def test_the_budget_holds_and_the_report_says_how_near_it_is(run) -> None:
    report = json.loads((run.out / "report.json").read_text())
    macs = next(row for row in report["budgets"] if row["metric"] == "macs")
    assert macs["pruned_predicted"] <= macs["limit"]
    assert report["run"]["mode"] == "calibrated"
    found = report["calibration"]
    assert (found["samples"], found["held_out"]) == (80, 16)
    assert 0 <= found["output_error"] < 1
    assert 0 <= found["agreement"] <= 1
    assert 0 < found["layers_fitted"] <= found["layers"]
    page = (run.out / "report.html").read_text()
    assert 'id="calibration"' in page
    assert "took no part" in page


def test_it_is_nearer_than_a_run_that_saw_nothing(run, trained) -> None:
    net, x = trained
    plain = dtp.prune_for_device(net, x[:1], device=DEVICE, budget=dtp.Budget(macs="60%"))
    new = torch.randn(64, 3, 12, 12)
    with torch.no_grad():
        errors = [float((r.module(new) - net(new)).square().mean()) for r in (run, plain)]
    assert errors[0] < 0.5 * errors[1]


def test_masked_compact_and_reloaded_compute_the_same(run) -> None:
    x = torch.randn(4, 3, 12, 12)
    with torch.no_grad():
        made = run.module(x)
        torch.testing.assert_close(run.masked(x), made, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(dtp.load_pruned(run.out)(x), made, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_network(run, trained) -> None:
    net, x = trained
    again = dtp.prune_for_device(
        net, x[:1], device=DEVICE, budget=dtp.Budget(macs="60%"), calibrate=list(x.split(16))
    )
    assert again.widths == run.widths
    for name, tensor in again.module.state_dict().items():
        assert torch.equal(tensor, run.module.state_dict()[name]), name


def test_labels_and_data_do_not_mix(trained) -> None:
    net, x = trained
    with pytest.raises(InputError, match="exclude each other"):
        dtp.prune_for_device(
            net, x[:1], device=DEVICE, budget=dtp.Budget(macs="60%"), calibrate=[x], data="digits"
        )


def spoiled(x: Tensor) -> dict[str, tuple[list, str]]:
    nan = x.clone()
    nan[3, 0, 0, 0] = torch.nan
    return {
        "none": ([], "too few calibration inputs: 0"),
        "one": ([x[:1]], "too few calibration inputs: 1"),
        "eight": ([x[:8]], "too few calibration inputs: 8"),
        "another size": ([x[:, :, :8]], "the network reads"),
        "another type": ([x.long()], "the network reads"),
        "nan": ([nan], "NaN or infinity"),
        "all alike": ([x[:1].expand(40, -1, -1, -1)], "all the same"),
        "flat": ([torch.arange(40.0).view(-1, 1, 1, 1).expand(-1, 3, 12, 12)], "constant"),
    }


@pytest.mark.parametrize("kind", list(spoiled(torch.zeros(40, 3, 12, 12))))
def test_inputs_that_nothing_good_comes_of_are_refused(kind: str, trained) -> None:
    net, x = trained
    batches, text = spoiled(x)[kind]
    with pytest.raises(InputError, match=text) as caught:
        calibration_set(batches, trace_network(net, (x[:2],)))
    assert caught.value.hint


def test_the_wrong_range_is_refused_and_an_odd_one_warned_of(trained) -> None:
    net, x = trained
    network = trace_network(net, (x[:2],))
    assert odd_scale(network, (x,)) == []
    (warning,) = odd_scale(network, (8 * x,))
    assert "normalised" in warning
    with pytest.raises(InputError, match="another range"):
        odd_scale(network, (127.5 + 60 * x,))


def hard(kind: str, x: Tensor) -> Tensor:
    """Inputs that are let through and whose second moments are singular or nearly so."""
    if kind == "one direction":
        return x[:1] * torch.linspace(0.2, 2.0, len(x)).view(-1, 1, 1, 1)
    if kind == "a dead channel":
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1)
    if kind == "nearly alike":
        return x[:1] + 1e-6 * x
    return x[:LEAST]  # fewer samples than a layer has inputs


@pytest.mark.parametrize("kind", ["one direction", "a dead channel", "nearly alike", "few"])
def test_singular_moments_end_in_a_sound_network_whose_weights_did_not_grow(kind: str, trained) -> None:
    net, x = trained
    result = dtp.prune_for_device(
        net, x[:1], device=DEVICE, budget=dtp.Budget(macs="60%"), calibrate=list(hard(kind, x).split(16))
    )
    dense, kept = net.state_dict(), result.kept
    for name, tensor in result.module.state_dict().items():
        assert torch.isfinite(tensor).all(), name
        if name in dense and name.endswith("weight") and tensor.dim() > 1:
            rows = list(kept.get(name, {}).get(0, range(len(tensor))))
            norms = dense[name].flatten(1).norm(dim=1)[rows]
            assert (tensor.flatten(1).norm(dim=1) <= (GROWTH + 1e-3) * norms).all(), name
    assert torch.isfinite(result.module(torch.randn(4, 3, 12, 12))).all()


def test_a_run_refuses_the_wrong_range_and_warns_of_few(trained) -> None:
    net, x = trained
    given = {"device": DEVICE, "budget": dtp.Budget(macs="60%")}
    with pytest.raises(InputError, match="another range") as caught:
        dtp.prune_for_device(net, x[:1], calibrate=[127.5 + 60 * x], **given)
    assert "0..1 instead of 0..255" in str(caught.value.hint)
    result = dtp.prune_for_device(net, x[:1], calibrate=[x[:20]], **given)
    assert any("Only 20 samples" in text for text in result.report["warnings"])


def test_few_inputs_are_warned_of_and_split(trained) -> None:
    net, x = trained
    found = calibration_set([(x[:LEAST], "labels are ignored")], trace_network(net, (x[:2],)))
    assert "Only 16 samples" in found.warnings[0]
    assert (found.samples, found.judges) == (13, 3)
    assert not {t.data_ptr() for (t,) in found.fitted} & {t.data_ptr() for (t,) in found.held_out}


def test_no_more_is_read_than_was_asked_for(trained) -> None:
    net, x = trained
    read = []

    def batches():
        for part in x.split(8):
            read.append(part)
            yield {"x": part}

    calibration_set(batches(), trace_network(net, (x[:2],)), images=32)
    assert len(read) == 4


def test_batches_are_as_small_as_is_quick_and_no_sample_is_lost(trained) -> None:
    net, x = trained
    network = trace_network(net, (x[:2],))
    large = [(torch.arange(40.0).view(40, 1, 1, 1).expand(40, 3, 224, 224),)] * 2
    small = in_small_batches(large, network)
    assert [len(part) for (part,) in small] == [6, 6, 6, 6, 6, 6, 4] * 2
    assert torch.equal(torch.cat([p[:, 0, 0, 0] for (p,) in small]), torch.arange(40.0).repeat(2))
    assert len(in_small_batches([(x,)], network)) == 1
    assert [p[:, 0, 0, 0].tolist() for (p,) in first_samples(small, 5, network, skip=4)] == [
        [4.0, 5.0],
        [6.0, 7.0, 8.0],
    ]


def test_large_inputs_are_fitted_on_fewer() -> None:
    batches = [(torch.zeros(1, 3, 1, 1).expand(32, 3, 224, 224),) for _ in range(16)]
    assert len(affordable(batches)) == 3
    assert len(affordable([(torch.zeros(32, 3, 32, 32),)] * 16)) == 16


@pytest.mark.parametrize(("macs", "ranked", "widths", "judged"), [(1e6, 192, 3, 64), (1e12, 128, 1, 8)])
def test_a_large_network_is_measured_on_fewer_inputs_at_fewer_widths(
    macs: float, ranked: int, widths: int, judged: int, trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = trained
    network = trace_network(copy.deepcopy(net), (x[:2],))
    task = Task.of(network, load_profile(DEVICE), dtp.Budget(macs="60%"))
    seen: list[int] = []

    def counted(network, batches, images, seed):
        seen.append(images)
        return moments_of(network, batches, images, seed)

    monkeypatch.setattr("dtp_edge.run.calibrated_widths.moments_of", counted)
    monkeypatch.setattr("dtp_edge.run.calibrated_widths.macs_of", lambda task: macs)
    monkeypatch.setattr(
        "dtp_edge.run.calibrated_widths.compared",
        lambda made, wanted: (float(seen.append(sum(map(len, made))) or 0.0), None),
    )
    with torch.no_grad():
        _, measured = _curves(task, [(x,), (x,)], 0, 1.0)
    assert seen[0] == ranked
    assert set(seen[1:]) == {judged}
    assert {len(m) for m in measured} == {widths}


def test_outputs_are_compared_by_what_they_vary() -> None:
    wanted = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    mean = wanted.mean(0).expand(3, 2)
    assert compared([mean], [wanted]) == (pytest.approx(1.0), pytest.approx(2 / 3))
    assert compared([{"a": wanted[:2]}, {"a": wanted[2:]}], [{"a": wanted[:2]}, {"a": wanted[2:]}]) == (
        0.0,
        1.0,
    )
    images = torch.randn(4, 3, 5, 5)
    assert compared([images], [images])[1] is None


class Attends(nn.Module):
    """Two inputs, attention, a feed-forward block, no batch norm, nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down, self.out = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        x = self.embed(x) * scale
        b, n, _ = x.shape
        y = self.norm(x)
        q, k, v = (f(y).view(b, n, 4, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, 16)
        x = x + self.o(y)
        return {"out": self.out(x + self.down(nn.functional.gelu(self.up(x))))}


def test_attention_several_inputs_and_named_outputs() -> None:
    torch.manual_seed(2)
    net = Attends().eval()
    batches = [(torch.randn(8, 5, 6), torch.rand(8, 1, 1) + 0.5) for _ in range(6)]
    result = dtp.prune_for_device(
        net,
        (batches[0][0][:1], batches[0][1][:1]),
        device=DEVICE,
        budget=dtp.Budget(params="70%"),
        calibrate=batches,
    )
    assert result.report["calibration"]["agreement"] is None
    assert result.report["calibration"]["output_error"] < 0.5
    assert any(kept < total for kept, total in result.widths.values())


def test_arrays_for_int8_are_single_samples(trained) -> None:
    net, x = trained
    rows = list(calibration_set([x], trace_network(net, (x[:2],))).arrays(5))
    assert [row.shape for row in rows] == [(1, 3, 12, 12)] * 5
    np.testing.assert_array_equal(rows[0], x[:1].numpy())


def test_int8_is_calibrated_on_the_same_inputs(trained, tmp_path: Path) -> None:
    net, x = trained
    result = dtp.prune_for_device(
        net,
        x[:1],
        device="stm32h747-cubeai-int8",
        budget=dtp.Budget(macs="60%"),
        calibrate=list(x.split(16)),
        int8=True,
        out=tmp_path / "r",
    )
    assert result.onnx_int8 is not None
    assert result.onnx_int8.is_file()
    assert result.report["calibration"]["int8_method"]
