"""Fleets: the error that is stated is that of families the fit has not seen; the cost of a profile is the
fit's.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cost_graphs import residual_net

from dtp_edge.cost import NetworkCost
from dtp_edge.cost.kernels import lower
from dtp_edge.errors import InputError
from dtp_edge.fitting import networks
from dtp_edge.fitting.averaged import Form, fit_averaged
from dtp_edge.fitting.networks import FUSIONS, NetworkKernel, PlainKernel, kernels_of, read_networks
from dtp_edge.fitting.rates import Board, Sample, design, fit_population
from dtp_edge.fitting.recipes import document, parts, recipes
from dtp_edge.fitting.recipes import fleet as fleet_module
from dtp_edge.fitting.recipes.fleet import (
    Fleet,
    Measurement,
    Shape,
    channel_steps,
    fit_fleet,
    fleet_parts,
    rate_spec,
    read_fleet_table,
    rows_of,
)
from dtp_edge.fitting.recipes.kind import kinds
from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles, parse_profile

ROOT = Path(__file__).resolve().parents[2]
SHAPE = Shape(2e11, 6e9, 6e9, 6.0, 2e5, input=1e9)


def tables(rng: np.random.Generator, count: int = 10) -> dict[tuple[str, str], list[NetworkKernel]]:
    """Return made-up networks, by the names and the fusion that fleets look for."""
    found = {}
    for index in range(count):
        kernels = [PlainKernel("input", "input", 1, 1, 1, 1, 0.0, float(rng.integers(1000, 200_000)), 0.0)]
        for family, op in (
            ("conv1x1", "conv2d"),
            ("conv3x3", "conv2d"),
            ("depthwise", "conv2d"),
            ("layout", "cat"),
        ):
            cin, cout, pixels = (int(v) for v in rng.integers(3, 200, size=3))
            macs = 0.0 if family == "layout" else float(cin * cout * pixels)
            sides = (1, 1) if family == "layout" else (cin, cout)
            moved, held = float((cin + cout) * pixels), float(cin * cout) * bool(macs)
            kernels.append(PlainKernel(family, op, *sides, 9, pixels, macs, moved, held))
        found[f"n{index}", "npu"] = [
            NetworkKernel(f"n{index}", "npu", k, int(rng.integers(1, 9))) for k in kernels
        ]
    return found


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    rng = np.random.default_rng(3)
    made = tables(rng)
    monkeypatch.setattr(fleet_module, "shipped_networks", lambda: made)
    boards = {
        name: [
            Measurement(f"m{i}", f"n{i}", f"family {i % 4}", float(speed * rng.uniform(0.5, 2.0)))
            for i in range(10)
        ]
        for name, speed in (("slow", 3.0), ("fast", 0.5))
    }
    return Fleet(
        "g", "npu", SHAPE, boards, {"": channel_steps(16), "fast": channel_steps(8)}, cache_elements=3e4
    )


def test_the_stated_error_is_that_of_a_fit_without_the_family(fleet, monkeypatch):
    monkeypatch.setattr(fleet_module, "_SDS", ((0.3, 0.5), (0.6, 0.8)))
    monkeypatch.setattr(fleet_module, "_NOISES", (0.1, 0.2))
    fit = fit_fleet(fleet)
    held = fit.held[1]
    spec = [rate_spec(SHAPE, a, b) for a, b in ((0.3, 0.5), (0.6, 0.8))]
    made = fleet_module.shipped_networks()
    for family in ("family 0", "family 3"):
        thetas = []
        for one in spec:
            boards = []
            for name, measured in fleet.boards.items():
                steps = channel_steps(8 if name == "fast" else 16)
                samples = [
                    Sample(m.name, m.family, rows_of(made[m.network, "npu"], steps, 3e4), m.latency_ms)
                    for m in measured
                    if m.family != family
                ]
                boards.append(Board(name, "g", tuple(samples)))
            # from nothing: no warm start, no data of the family anywhere
            thetas += [fit_population(one, boards, rounds=8, noise=n).theta[1] for n in (0.1, 0.2)]
        theta = np.mean(thetas, axis=0)
        for index, m in enumerate(fleet.boards["fast"]):
            if m.family == family:
                row = Sample(m.name, family, rows_of(made[m.network, "npu"], channel_steps(8), 3e4), 1.0)
                expected = float((design(spec[0], [row]) @ np.exp(theta))[0])
                assert held.predicted_ms[index] == pytest.approx(expected, rel=1e-9)


def test_a_familys_own_latencies_cannot_change_what_is_predicted_for_it(fleet, monkeypatch):
    monkeypatch.setattr(fleet_module, "_SDS", ((0.3, 0.5),))
    before = fit_fleet(fleet).held
    wild = {
        name: [replace(m, latency_ms=m.latency_ms * (50.0 if m.family == "family 2" else 1.0)) for m in rows]
        for name, rows in fleet.boards.items()
    }
    after = fit_fleet(replace(fleet, boards=wild)).held
    for old, new in zip(before, after, strict=True):
        inside = np.array([int(n[1:]) % 4 == 2 for n in old.names])
        assert new.predicted_ms[inside] == pytest.approx(old.predicted_ms[inside], rel=1e-12)
        assert not np.allclose(new.predicted_ms[~inside], old.predicted_ms[~inside], rtol=0.1)


def test_one_form_averaged_is_that_form(fleet):
    spec = rate_spec(SHAPE, 0.3, 0.5)
    made = fleet_module.shipped_networks()
    samples = tuple(
        Sample(m.name, m.family, rows_of(made[m.network, "npu"], {}), m.latency_ms)
        for m in fleet.boards["slow"]
    )
    form = Form(spec, (Board("slow", "g", samples),), 0.1)
    alone, twice = fit_averaged([form]), fit_averaged([form, form])
    assert twice.theta[0] == pytest.approx(alone.theta[0])
    assert twice.held[0].predicted_ms == pytest.approx(alone.held[0].predicted_ms)


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_a_fitted_profile_costs_a_network_what_the_fit_says(fleet, monkeypatch, fusion):
    """Independent of the fit: the network is traced, lowered and costed by the room `cost`."""
    graph = residual_net()
    counted = [NetworkKernel("own", "npu", k, 1) for k in kernels_of(lower(graph, _fusion(fusion)), graph)]
    fit = fit_fleet(replace(fleet, cache_elements=None))
    made = fleet_parts(replace(fleet, cache_elements=None), fit, "slow", 1, "how")
    base = dict(load_profile("kv260-dpu-int8").document)
    base |= {"kernels": made.kernels, "fusion": FUSIONS[fusion], **made.more}
    cost = NetworkCost(graph, parse_profile(base))
    sample = Sample("own", "", rows_of(counted, channel_steps(16)), 1.0)
    expected = float((design(fit.spec, [sample]) @ np.exp(fit.theta[0]))[0])
    assert cost.evaluate(cost.dense_sizes())["latency_ms"] == pytest.approx(expected, rel=1e-3)


def _fusion(name):
    from dtp_edge.profiles.profile import Fusion

    return Fusion(**FUSIONS[name])


FLEETS = [n for n, r in recipes().items() if "group" in r]


@pytest.mark.parametrize("name", FLEETS)
def test_shipped_fleet_profiles_are_monotone_and_nothing_is_free(name):
    profile = load_profile(name)
    cost = NetworkCost(residual_net(), profile)
    dense = cost.dense_sizes()
    assert not cost.extrapolations()
    rows = [row for row in cost.by_layer(dense) if row.latency_ms == 0.0]
    assert all(row.macs == 0.0 for row in rows)
    rng = np.random.default_rng(0)
    for _ in range(6):
        small = np.maximum(1.0, np.floor(dense * rng.uniform(0.1, 1.0, len(dense))))
        large = np.minimum(dense, small + rng.integers(0, 9, len(dense)))
        assert cost.evaluate(small)["latency_ms"] <= cost.evaluate(large)["latency_ms"] * (1 + 1e-12)
        assert cost.evaluate(small)["latency_ms"] > 0.0


def test_the_errors_of_the_shipped_profiles_are_those_of_the_committed_predictions():
    path = ROOT / "benchmarks" / "results" / "profile_errors.csv"
    if not path.is_file():
        pytest.skip("the benchmarks are not beside the tests")
    off: dict[str, list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            ratio = float(line["held_out_predicted_ms"]) / float(line["measured_ms"])
            off.setdefault(line["profile"], []).append(abs(ratio - 1.0))
    for name in FLEETS:
        error, found = load_profile(name).error, sorted(off[name])
        assert error.n == len(found)
        middle = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
        assert error.median_relative == pytest.approx(middle, abs=2e-3)
        asked = recipes()[name].get("asked_relative", math.inf)
        assert (middle <= asked) or error.status == "indicative"


def test_raspberry_pis_are_missed_because_their_table_disagrees_with_itself():
    """A network's own time on the two other boards, and one factor a board, is farther off than was asked."""
    path = ROOT / "benchmarks" / "results" / "profile_errors.csv"
    if not path.is_file():
        pytest.skip("the benchmarks are not beside the tests")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [line for line in csv.DictReader(file) if line["profile"].startswith("rpi")]
    for precision, least, most in (("fp16", 0.16, 0.39), ("int8", 0.47, 0.54)):
        times: dict[str, dict[str, float]] = {}
        for line in rows:
            if line["profile"].endswith(f"tflite-{precision}"):
                times.setdefault(line["profile"], {})[line["network"]] = math.log(float(line["measured_ms"]))
        found = []
        for board, own in times.items():
            others = [t for name, t in times.items() if name != board]
            shared = {n: np.mean([t[n] for t in others]) for n in own if all(n in t for t in others)}
            off = []
            for network in shared:
                family = network.split("-")[0]
                rest = [own[n] - shared[n] for n in shared if n.split("-")[0] != family]
                off.append(abs(math.expm1(np.median(rest) + shared[network] - own[network])))
            found.append(float(np.median(off)))
        assert len(found) == 3
        assert min(found) > 0.15
        assert (min(found), max(found)) == pytest.approx((least, most), abs=0.01)


def test_at_least_sixty_profiles_and_twenty_five_of_npus_and_gpus():
    kinds_of = [load_profile(name).device.kind for name in list_profiles()]
    assert len(kinds_of) >= 60
    assert sum(kind in ("npu", "gpu") for kind in kinds_of) >= 25


def test_recipe_kinds_are_found_by_themselves():
    assert {"ncnn", "qualcomm", "vitis", "rockchip", "netspresso jetson-orin", "coral"} <= set(kinds())
    assert {recipe["kind"] for recipe in recipes().values()} <= set(kinds())


def test_a_fleet_of_a_few_lines_becomes_a_profile(tmp_path):
    """The Rockchip recipe on a table of the vendor's form, three networks of two families."""
    lines = ["device,demo,model,input_shape,precision,fps,latency_ms"]
    nets = {
        "mobilenetv2-12": 2.0,
        "yolov8n": 14.0,
        "yolov8s": 27.0,
        "yolo11n": 17.0,
        "nobody_ships_this": 3.0,
    }
    lines += [f'RK3562,x,{net},"[1, 3, 640, 640]",INT8,0,{ms}' for net, ms in nets.items()]
    folder = tmp_path / "rknn"
    folder.mkdir()
    (folder / "rknn_fps.csv").write_text("\n".join(lines) + "\n")
    made = parts("rk3562-npu-rknn-int8", tmp_path)
    assert made.held.names == ("mobilenetv2-12", "yolov8n", "yolov8s", "yolo11n")
    profile = parse_profile(document("rk3562-npu-rknn-int8", made, "2026-01-01"))
    assert profile.error.n == 4
    assert profile.kernels["conv3x3"].channel_step == (16, 16)


def test_networks_that_no_package_ships_are_counted(tmp_path, fleet):
    path = tmp_path / "t.csv"
    path.write_text("board,model,ms\nb,known,2.0\nb,strange,3.0\nother,known,1.0\n")
    boards, left = read_fleet_table(
        path,
        {"known": ["n1", "f"]},
        "npu",
        lambda line: (line["board"], line["model"], float(line["ms"])) if line["board"] == "b" else None,
    )
    assert [(m.name, m.network, m.latency_ms) for m in boards["b"]] == [("known", "n1", 2.0)]
    assert left == ["strange"]
    path.write_text("board,model,ms\nb,known,0\n")
    with pytest.raises(InputError, match="is not a valid latency"):
        read_fleet_table(
            path, {"known": ["n1", "f"]}, "npu", lambda line: ("b", line["model"], float(line["ms"]))
        )


def test_the_network_table_reads_back_what_was_written(tmp_path):
    rows = [row for kernels in tables(np.random.default_rng(0), 3).values() for row in kernels]
    networks.write_networks(tmp_path / "n.csv.gz", rows)
    assert [row for kernels in read_networks(tmp_path / "n.csv.gz").values() for row in kernels] == rows
    first = (tmp_path / "n.csv.gz").read_bytes()
    networks.write_networks(tmp_path / "m.csv.gz", rows)
    assert (tmp_path / "m.csv.gz").read_bytes() == first


def test_the_shipped_networks_have_the_published_sizes():
    """MACs and parameters as the papers and torchvision's documentation give them (1e9, 1e6)."""
    shipped = networks.shipped_networks()
    published = {"resnet18": (1.81, 11.69), "resnet50": (4.09, 25.56), "mobilenet_v2": (0.30, 3.50)}
    published |= {"vgg16": (15.47, 138.36), "efficientnet_b0": (0.39, 5.29), "yolox_s": (13.4, 8.97)}
    for name, (gmacs, millions) in published.items():
        rows = shipped[name, "npu"]
        assert sum(r.kernel.macs * r.count for r in rows) / 1e9 == pytest.approx(gmacs, rel=0.02)
        assert sum(r.kernel.weight_elements * r.count for r in rows) / 1e6 == pytest.approx(
            millions, rel=0.02
        )
