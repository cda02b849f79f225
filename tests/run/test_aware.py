"""int8 that loses too much: trained with its roundings, then layers in float, priced; by the public door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.archive import load_pruned
from dtp_edge.int8.quantise import is_quantized
from dtp_edge.onnx import evaluate_onnx
from dtp_edge.report import read_report
from dtp_edge.run.options import Options
from dtp_edge.run.pipeline import prune
from dtp_edge.run.priced_float import float_sibling, price_in_float
from dtp_edge.run.proved import Cut
from dtp_edge.run.task import Task
from dtp_edge.training import DataSource, Recipe, load_data

INT8_DEVICE = "stm32h747-cubeai-int8"  # no float profile of it is shipped
WITH_FLOAT = "rpi4-tflite-int8"


class Net(nn.Module):
    """A depthwise network whose channels differ by 2^8 in range: one scale a tensor cannot serve them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depth(self.stem(x).relu()).relu()
        return self.head(self.point(x).relu().mean((2, 3)))


def spread(net: Net, octaves: float = 4.0) -> Net:
    factor = torch.exp2(torch.linspace(-octaves, octaves, 16))
    with torch.no_grad():
        net.depth.weight.mul_(factor.view(-1, 1, 1, 1))
        net.depth.bias.mul_(factor)
        net.point.weight.div_(factor.view(1, -1, 1, 1))
    return net


@pytest.fixture(scope="module")
def data() -> DataSource:
    return load_data("digits", image_size=8)


@pytest.fixture(scope="module")
def run(data: DataSource, tmp_path_factory: pytest.TempPathFactory) -> dtp.PruneResult:
    torch.manual_seed(0)
    options = Options(
        dtp.Budget(macs="80%", flash="64KiB"),
        device=INT8_DEVICE,
        data=data,
        recipe=Recipe(base_epochs=0, mask_epochs=0.5, tune_epochs=1.0, batch_size=64),
        out=tmp_path_factory.mktemp("runs") / "aware",
        int8=True,
        int8_method="minmax",
        int8_loss=-1.0,  # more than all: every trial is made
        int8_per_tensor=True,
        depth=False,
    )
    return prune(spread(Net()).eval(), torch.zeros(2, 1, 8, 8), options)


def test_every_trial_is_made_and_the_best_is_the_file(run: dtp.PruneResult, data: DataSource) -> None:
    assert run.onnx_int8 is not None
    facts = read_report(run.onnx_int8.with_name("report.json"))["int8"]
    hows = [trial["how"] for trial in facts["trials"]]
    assert hows[:3] == ["calibrated", "equalised", "trained with rounding"]
    assert [how.rsplit(", ", 1)[1] for how in hows[3:]] == ["1 in float", "2 in float", "4 in float"]
    best = max(facts["trials"], key=lambda trial: trial["holdout"])
    assert facts["how"] == best["how"]
    assert is_quantized(run.onnx_int8)
    assert evaluate_onnx(run.onnx_int8, data.holdout.ordered(256)) == pytest.approx(best["holdout"])
    assert facts["training"]["epochs"] == pytest.approx(1.0)
    errors = {row["layer"]: row["error"] for row in facts["sensitivity"]}
    assert set(errors) == {"stem.weight", "depth.weight", "point.weight", "head.weight"}
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert min(errors.values()) > 0
    for trial in facts["trials"][3:]:
        assert trial["float_layers"] == list(errors)[: len(trial["float_layers"])]
    assert facts["left_in_float"].startswith("4 layers in float: ")
    assert "flash" in facts["left_in_float"]
    assert "over" not in facts["left_in_float"]
    page = run.onnx_int8.with_name("report.html").read_text()
    assert "4 layers in float" in page
    assert f"{hows[3].split(',')[0]}, 1 in float" in page
    assert not [p for p in run.onnx_int8.parent.iterdir() if p.name.startswith(".")]


def test_layers_in_float_are_float_in_the_file(run: dtp.PruneResult, data: DataSource) -> None:
    from dtp_edge.run.aware import Aim

    assert run.onnx is not None
    folder = run.onnx.parent / "trials"
    folder.mkdir()
    options = Options(dtp.Budget(flash="80%"), int8_method="minmax")
    aim = Aim(options, None, data, lambda: data.calibration(64), lambda path: 0.0, folder)  # type: ignore[arg-type]
    rounded = _rounded_weights(aim.trial("whole", run.onnx).path)
    mixed = _rounded_weights(aim.trial("mixed", run.onnx, ("depth.weight",)).path)
    assert rounded - mixed == {"depth.weight"}
    assert mixed


def _rounded_weights(path: Path) -> set[str]:
    graph = onnx.load(path).graph
    rounded = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"]
    return {name.removesuffix("_quantized") for name in rounded if "weight" in name}


def test_weights_that_were_trained_for_int8_are_handed_on(
    run: dtp.PruneResult, data: DataSource, tmp_path: Path
) -> None:
    """What further formats are made of computes what the float file of that training computes."""
    import dtp_edge.run.aware as aware

    assert run.onnx is not None
    module = load_pruned(run.onnx.parent).eval()
    task = Task.trace(
        module, (torch.zeros(2, 1, 8, 8),), Options(dtp.Budget(macs="100%"), device=INT8_DEVICE)
    )
    cut = Cut.of(task, np.ones(task.network.n_atoms, dtype=bool))
    other = load_pruned(run.onnx.parent).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.01)
    aware._store(cut, other, tmp_path / "network")
    back = load_pruned(tmp_path / "network").eval()
    x = next(iter(data.test.ordered(8)))[0]
    with torch.no_grad():
        assert torch.allclose(back(x), other(x))
        assert not torch.allclose(back(x), module(x))


def cut_of(device: str, **budget: str) -> Cut:
    torch.manual_seed(1)
    task = Task.trace(Net().eval(), (torch.zeros(2, 1, 8, 8),), Options(dtp.Budget(**budget), device=device))
    return Cut.of(task, np.ones(task.network.n_atoms, dtype=bool))


def test_flash_and_ram_of_float_layers_are_counted_by_hand() -> None:
    cut = cut_of(INT8_DEVICE, flash="100%")
    within, text = price_in_float(cut, ["point.weight"])
    assert not within
    assert text.endswith("over the budget")
    more = cut_of(INT8_DEVICE, flash="64KiB", ram="256KiB")
    within, text = price_in_float(more, ["point.weight"])
    assert within
    flash = more.task.cost.evaluate(more.task.cost.dense_sizes())["flash_bytes"] + 3 * 16 * 24
    assert f"{flash / 1024:.3g} KiB" in text
    live = dict(more.task.cost.memory_schedule(more.task.cost.dense_sizes()))
    point = next(n for n in live if "conv2d_2" in n)
    ram = max(*live.values(), live[point] + 4 * 64 * (16 + 24))
    assert f"{ram / 1024:.3g} KiB" in text


def test_time_is_that_of_a_float_profile_or_refused() -> None:
    cut = cut_of(INT8_DEVICE, latency="100%")
    assert float_sibling(cut.task.cost.profile) is None
    within, text = price_in_float(cut, ["point.weight"])
    assert not within
    assert "no float profile of STM32H747I-DISCO" in text
    with_float = cut_of(WITH_FLOAT, latency="1s")
    sibling = float_sibling(with_float.task.cost.profile)
    assert sibling is not None
    assert sibling.name == "rpi4-tflite-fp32"
    within, text = price_in_float(with_float, ["point.weight", "head.weight"])
    assert within
    assert text.startswith("2 layers in float: ")
