"""A network outside of what a profile was measured on: a value with a reason, everywhere that it matters."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge import cli
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.outside import FAR, outside_text
from dtp_edge.graph import trace_network
from dtp_edge.measure.import_printouts import Setting, import_printouts
from dtp_edge.measure.printout import PrintedRow, Printout
from dtp_edge.profiles import Profile, save_profile
from dtp_edge.zoo import create, example_input


@pytest.fixture(scope="module")
def imported() -> Profile:
    """What an import makes of ResNet-8 on a device that is exactly as a shipped profile says."""
    device, layers = (
        dtp.load_profile("rpi4-tflite-fp32"),
        layers_of(create("resnet8"), example_input("resnet8")),
    )
    cost = NetworkCost(layers, device)
    rows = [
        PrintedRow((row.name,), row.kernel, row.latency_ms)
        for row in cost.by_layer(cost.dense_sizes())
        if row.fused_into is None and row.kernel != "free"
    ]
    made, _ = import_printouts([Printout("f", "A runtime", tuple(rows))], [("resnet8", layers)], Setting("b"))
    return made


def wide() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 1024, 3, padding=1), nn.ReLU(), nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(1024, 8, 1)).eval(), torch.randn(1, 3, 16, 16)


def layers_of(module: nn.Module, x: torch.Tensor):
    return trace_network(module.eval(), (x,)).layers


def test_what_it_was_made_of_is_inside_and_far_shapes_are_not(imported):
    near = NetworkCost(layers_of(create("resnet8"), example_input("resnet8")), imported)
    assert near.outside(near.dense_sizes()) == []
    far = NetworkCost(layers_of(*wide()), imported)
    found = far.outside(far.dense_sizes())
    assert found[0].family == "conv3x3"
    assert found[0].share > 0.5
    assert "channels" in found[0].why
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    text = outside_text(found, imported.name)
    assert f"{sum(one.share for one in found):.0%} of the predicted time" in text
    assert found[0].layer in text


def test_fewer_channels_come_back_inside(imported):
    cost = NetworkCost(layers_of(*wide()), imported)
    small = np.where(cost.dense_sizes() > 64, 32.0, cost.dense_sizes())
    assert (
        sum(one.share for one in cost.outside(small))
        < 0.1
        < sum(one.share for one in cost.outside(cost.dense_sizes()))
    )


def test_a_family_that_no_one_measured_is_outside(imported):
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Softmax(dim=1)).eval()
    found = NetworkCost(layers_of(module, torch.randn(1, 3, 32, 32)), imported)
    names = {one.why.split(":")[0] for one in found.outside(found.dense_sizes())}
    assert "extrapolated" in names


def test_rates_know_no_range():
    cost = NetworkCost(layers_of(*wide()), dtp.load_profile("rpi4-ncnn-fp32-1t"))
    assert cost.outside(cost.dense_sizes()) == []


def test_a_run_says_so_and_claims_no_error(imported):
    module, x = wide()
    result = dtp.prune_for_device(module, x, device=imported, budget=dtp.Budget(latency="70%"))
    assert any("outside of what b was measured on" in text for text in result.warnings)
    device = result.report["device"]
    assert device["outside"][0]["share"] > 0.5
    latency = next(row for row in result.report["budgets"] if row["metric"] == "latency_ms")
    assert latency["relative_error_of_profile"] is None
    near = dtp.prune_for_device(
        create("resnet8"), example_input("resnet8"), device=imported, budget=dtp.Budget(latency="90%")
    )
    assert near.report["device"]["outside"] == []
    assert not any("outside" in text for text in near.warnings)


def test_a_plan_says_so(imported, tmp_path, capsys):
    def run(*words: str) -> str:
        assert cli.run(cli.cli, list(words), "dtp-edge") == 0
        return " ".join(capsys.readouterr().out.split())

    profile = save_profile(imported.document, tmp_path / "b.json")
    file = tmp_path / "wide.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    layers = [nn.Conv2d(3, 1024, 3, padding=1), nn.ReLU(), nn.Conv2d(1024, 1024, 3, padding=1)]\n"
        "    return nn.Sequential(*layers).eval(), torch.randn(1, 3, 16, 16)\n"
    )
    asked = ["prune", f"{file}:build", "--device", str(profile), "--latency", "70%", "--plan"]
    assert "outside of what b was measured on" in run(*asked)
    (entry,) = json.loads(run(*asked, "--json"))
    assert "outside of what b" in entry["warnings"][0]
    several = run(*asked[:2], "--device", f"{profile},rpi4-ncnn-fp32-1t", *asked[4:])
    assert " ?" in several
    assert "-v says of which layers" in several


def test_distance_is_in_length_scales(imported):
    from dtp_edge.cost.table import TableKernel

    table = TableKernel.from_json(imported.kernels["conv3x3"].document, "k")  # type: ignore[union-attr]
    entry = imported.document["kernels"]["conv3x3"]
    rows = np.array(entry["rows"])
    known = {name: rows[:, i] for i, name in enumerate(entry["columns"][:-1])}
    assert table.apart(known)[0] == pytest.approx(np.zeros(len(rows)), abs=1e-9)
    weight = entry["base"]["coordinates"]["pixels"]
    one = {name: column[:1].copy() for name, column in known.items()}
    side = one["out_h"] * one["out_w"]
    one["out_h"] = one["out_h"] * 1e4
    far, most = table.apart(one)
    assert most == ["pixels"]
    largest = max(np.log2(1 + known["out_h"] * known["out_w"]))
    assert far[0] >= weight * (np.log2(1 + side[0] * 1e4) - largest) > FAR
