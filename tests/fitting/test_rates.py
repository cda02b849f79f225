"""The fitter on made-up boards whose truth is known, and its rows against the cost model that uses them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cost_graphs import residual_net

from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.fitting.losses import Cauchy, Huber
from dtp_edge.fitting.own_latencies import Measured, fit_measured, from_graph, read_measured
from dtp_edge.fitting.rate_documents import kernel_documents
from dtp_edge.fitting.rates import (
    Board,
    KernelRates,
    Rate,
    RateSpec,
    Sample,
    design,
    fit_population,
    leave_family_out,
    prior,
    solve,
)
from dtp_edge.fitting.recipes import build, recipes
from dtp_edge.fitting.recipes.arm import arm_kernels
from dtp_edge.fitting.recipes.mobilenets import mobilenet_rows
from dtp_edge.fitting.recipes.tables import read_samples
from dtp_edge.fitting.rows import KernelRow, read_layer_table
from dtp_edge.measure import load_profile
from dtp_edge.profiles import parse_profile, save_profile

SPEC = RateSpec(
    rates=(
        Rate("mac", "compute", 1.0, 0.3),
        Rate("depthwise", "compute", 3.0, 0.5),
        Rate("io", "memory", 1.0, 0.5),
        Rate("launch", "overhead", 1.0, 0.7),
    ),
    kernels={
        "conv": KernelRates("mac", "io", "io", "launch"),
        "depthwise": KernelRates("depthwise", "io", "io", "launch"),
        "pool": KernelRates("", "io", "", "launch"),
    },
)
TRUTH = np.log([1e3 / 5e9, 1e3 / 1e9, 1e3 / 4e8, 0.05])


def samples(rng, truth, n=24, noise=0.0, families=6):
    result = []
    for index in range(n):
        rows = tuple(
            KernelRow(
                key, rng.uniform(1e6, 3e8) * (key != "pool"), rng.uniform(1e4, 1e6), rng.uniform(1e3, 1e6)
            )
            for key in rng.choice(list(SPEC.kernels), size=12)
        )
        sample = Sample(f"n{index}", f"f{index % families}", rows, 1.0)
        exact = float((design(SPEC, [sample]) @ np.exp(truth))[0])
        result.append(Sample(sample.name, sample.family, rows, exact * np.exp(rng.normal(0, noise))))
    return tuple(result)


def test_exact_data_give_the_exact_rates():
    boards = [Board("b", "g", samples(np.random.default_rng(0), TRUTH))]
    fitted = fit_population(SPEC, boards, rounds=12, noise=1e-4)
    assert fitted.theta[0] == pytest.approx(TRUTH, abs=1e-3)


def test_one_wild_measurement_does_not_drag_the_rest():
    clean = samples(np.random.default_rng(1), TRUTH)
    wild = (Sample(clean[0].name, clean[0].family, clean[0].rows, clean[0].latency_ms * 8), *clean[1:])
    theta = fit_population(SPEC, [Board("b", "g", wild)], rounds=12).theta[0]
    ratio = design(SPEC, clean) @ np.exp(theta) / [s.latency_ms for s in clean]
    assert np.median(np.abs(ratio - 1)) < 0.05


@pytest.mark.parametrize("loss", [Huber(0.25), Cauchy(0.25)])
def test_a_loss_is_the_square_near_zero_and_its_weight_is_its_slope(loss):
    error = np.linspace(-3.0, 3.0, 41) + 0.01
    slope = (loss.of(error + 1e-6) - loss.of(error - 1e-6)) / 2e-6
    assert slope == pytest.approx(2 * error * loss.weight(error), abs=1e-6)
    assert loss.of(np.array([1e-4])) == pytest.approx([1e-8], rel=1e-5)


def test_cauchy_lets_go_of_networks_that_huber_still_pulls_at():
    clean = samples(np.random.default_rng(11), TRUTH, noise=0.02)
    wild = [
        replace(s, latency_ms=s.latency_ms * (100 if s.family == "f1" and i < 12 else 1))
        for i, s in enumerate(clean)
    ]
    right = np.array([s.latency_ms for s in clean])
    off = {}
    for loss in (Huber(0.25), Cauchy(0.25)):
        theta = fit_population(SPEC, [Board("b", "g", tuple(wild))], loss=loss).theta[0]
        off[loss] = float(np.median(np.abs(design(SPEC, clean) @ np.exp(theta) / right - 1)))
    assert off[Cauchy(0.25)] < 0.02 < off[Huber(0.25)]


def test_rates_stay_within_the_datasheet():
    board = Board("b", "g", samples(np.random.default_rng(2), TRUTH), {"mac": 2e9})
    theta = fit_population(SPEC, [board], rounds=6).theta[0]
    assert 1e3 / np.exp(theta[0]) <= 2e9 * (1 + 1e-9)


def test_an_unseen_rate_stays_near_the_board_s_level():
    """Without any depthwise layer its rate must not run off to infinity."""
    rng = np.random.default_rng(3)
    rows = [tuple(KernelRow("conv", rng.uniform(1e6, 3e8), 1e5, 1e5) for _ in range(9)) for _ in range(10)]
    made = [Sample(f"n{i}", f"f{i}", r, 1.0) for i, r in enumerate(rows)]
    exact = design(SPEC, made) @ np.exp(TRUTH)
    board = Board(
        "b", "g", tuple(Sample(s.name, s.family, s.rows, t) for s, t in zip(made, exact, strict=True))
    )
    rate = 1e3 / np.exp(fit_population(SPEC, [board]).theta[0][1])
    assert 1e8 < rate < 1e10


def test_held_out_family_is_not_seen():
    """Spoil one family's measurements: its held-out predictions must not move."""
    clean = [
        Board(f"b{i}", "g", samples(np.random.default_rng(i), TRUTH + 0.2 * i, noise=0.05)) for i in range(3)
    ]
    spoiled = [
        Board(
            b.name,
            b.group,
            tuple(
                Sample(s.name, s.family, s.rows, s.latency_ms * (3 if s.family == "f2" else 1))
                for s in b.samples
            ),
        )
        for b in clean
    ]
    one, two = leave_family_out(SPEC, clean), leave_family_out(SPEC, spoiled)
    for board, a, b in zip(clean, one, two, strict=True):
        held = [i for i, s in enumerate(board.samples) if s.family == "f2"]
        assert a.predicted_ms[held] == pytest.approx(b.predicted_ms[held], rel=1e-9)
        others = [i for i in range(len(board.samples)) if i not in held]
        assert not np.allclose(a.predicted_ms[others], b.predicted_ms[others], rtol=1e-3)


def test_held_out_error_is_about_the_noise():
    boards = [Board("b", "g", samples(np.random.default_rng(5), TRUTH, n=60, noise=0.1))]
    held = leave_family_out(SPEC, boards)[0]
    assert 0.04 < held.median() < 0.12


def test_solve_reaches_the_minimum_that_scipy_finds():
    optimize = pytest.importorskip("scipy.optimize")
    made = samples(np.random.default_rng(7), TRUTH, noise=0.2)
    matrix, latency = design(SPEC, made), np.array([s.latency_ms for s in made])
    mean, covariance = prior(SPEC)
    precision = np.linalg.inv(covariance)

    def objective(theta):
        error = np.abs(np.log(matrix @ np.exp(theta)) - np.log(latency))
        loss = np.where(error < 0.25, error**2, 0.5 * error - 0.25**2)
        return loss.sum() / 0.07**2 + (theta - mean) @ precision @ (theta - mean)

    ours = solve(matrix, latency, mean, precision, iterations=200)
    theirs = optimize.minimize(
        objective, mean, method="Nelder-Mead", options={"maxiter": 20_000, "fatol": 1e-9}
    )
    assert objective(ours) <= theirs.fun * (1 + 1e-4)


def test_fitted_rates_become_a_profile_that_costs_the_same():
    """rows @ rates and NetworkCost on the written profile are the same number, network by network."""
    base = load_profile("rpi4-ncnn-fp32-1t")
    for profile in (base, load_profile("rpi5-ncnn-fp16-1t"), load_profile("stm32h747-cubeai-int8")):
        for graph in (residual_net(1), residual_net(2, 24)):
            cost = NetworkCost(graph, profile)
            expected = cost.evaluate(cost.dense_sizes())["latency_ms"]
            measured = from_graph("n", "f", graph, 1.0, profile)
            assert sum(measured.amounts.values()) == pytest.approx(expected, rel=1e-9)


def test_kernel_documents_are_a_valid_profile(tmp_path):
    document = dict(load_profile("rpi4-ncnn-fp32-1t").document)
    document["kernels"] = kernel_documents(SPEC, TRUTH, 4, {"conv": {"out_channels": 4}}, "fitted")
    profile = parse_profile(document)
    save_profile(document, tmp_path / "p.json")
    assert profile.kernels["conv"].macs_per_second == pytest.approx(5e9, rel=1e-3)
    assert profile.kernels["conv"].bytes_per_second == pytest.approx(1.6e9, rel=1e-3)
    assert profile.kernels["conv"].channel_step == (1, 4)


def test_own_measurements_on_a_board_twice_as_fast():
    base = load_profile("rpi4-ncnn-fp32-1t")
    measured = []
    for depth in (1, 2, 3):
        for image in (16, 24, 32):
            graph = residual_net(depth, image)
            slow = from_graph("n", f"d{depth}", graph, 1.0, base)
            measured.append(
                Measured(f"{depth}-{image}", f"d{depth}", slow.amounts, sum(slow.amounts.values()) / 2)
            )
    document, held = fit_measured(base, measured, name="mine", changes={}, date="2026-01-01", source="test")
    assert held.median() < 0.01
    profile = parse_profile(document)
    cost = NetworkCost(residual_net(3, 32), profile)
    assert cost.evaluate(cost.dense_sizes())["latency_ms"] == pytest.approx(measured[-1].latency_ms, rel=0.02)
    # a family that no network used is scaled with the board, not left behind
    old, new = base.kernels["resize"], profile.kernels["resize"]
    assert new.bytes_per_second / old.bytes_per_second == pytest.approx(2, rel=0.05)
    assert "scaled" in new.source


def test_own_measurements_find_the_rate_of_weights_beyond_the_cache():
    cached = {"weight_cache": {"bytes": 400.0, "bytes_per_second": 2e6}}
    base = parse_profile({**load_profile("rpi4-ncnn-fp32-1t").document, **cached})
    measured = []
    for depth in (1, 2, 3, 4):
        for image in (16, 32):
            amounts = from_graph("n", f"d{depth}", residual_net(depth, image), 1.0, base).amounts
            cost = NetworkCost(residual_net(depth, image), base)
            ms = cost.evaluate(cost.dense_sizes())["latency_ms"] - base.graph_overhead_ms
            assert sum(amounts.values()) == pytest.approx(ms)
            measured.append(Measured(f"{depth}-{image}", f"d{depth}", amounts, 3 * ms))
    document, _ = fit_measured(base, measured, name="mine", changes={}, date="2026-01-01", source="test")
    assert document["weight_cache"]["bytes_per_second"] == pytest.approx(2e6 / 3, rel=0.02)
    assert base.document["weight_cache"]["bytes_per_second"] == 2e6


def test_too_few_measurements_are_refused():
    base = load_profile("rpi4-ncnn-fp32-1t")
    one = Measured("a", "f", from_graph("a", "f", residual_net(1), 1.0, base).amounts, 1.0)
    with pytest.raises(InputError, match="too few"):
        fit_measured(base, [one] * 8, name="m", changes={}, date="2026-01-01", source="t")


LAYERS = """net,layer,type,kind,cin,cout,hin,win,hout,wout,kh,kw,sh,sw,groups,macs,params,in_elems,out_elems
a,c,Convolution,conv1x1,8,16,4,4,4,4,1,1,1,1,1,2048,144,128,256
b,c,Convolution,conv1x1,16,16,4,4,4,4,1,1,1,1,1,4096,272,256,256
"""


@pytest.mark.parametrize(
    ("latencies", "what"),
    [
        ("network,latency_ms\na,1\nmissing,2\n", "line 3.*missing"),
        ("network,latency_ms\na,-1\n", "line 2.*positive"),
        ("network,latency_ms\na,nan\n", "line 2.*positive"),
        ("net,ms\na,1\n", "line 2.*positive"),
    ],
)
def test_bad_measurement_files_name_the_line(tmp_path, latencies, what):
    (tmp_path / "lat.csv").write_text(latencies)
    (tmp_path / "layers.csv").write_text(LAYERS)
    with pytest.raises(InputError, match=what):
        read_measured(tmp_path / "lat.csv", tmp_path / "layers.csv", load_profile("rpi4-ncnn-fp32-1t"))


def test_bad_layer_table_names_the_line(tmp_path):
    (tmp_path / "layers.csv").write_text(LAYERS + "c,c,Convolution,conv1x1,eight" + ",1" * 14 + "\n")
    with pytest.raises(InputError, match="line 4"):
        read_layer_table(tmp_path / "layers.csv")
    with pytest.raises(InputError, match="no such file"):
        read_layer_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("board,ms\nmine,1\nmine,fast\n", "line 3: .*fast"),
        ("board\nmine\n", "line 2: .*ms"),
        ("board,ms\nmine,-1\n", "line 2: .*not a valid latency"),
        ("board,ms\nmine,nan\n", "line 2: .*not a valid latency"),
        ("board,ms\nother,1\n", "holds no measurement"),
    ],
)
def test_a_recipe_s_table_is_refused_by_its_line(tmp_path, text, what):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=what):
        read_samples(
            tmp_path / "t.csv", lambda r: ("a", "f", (), float(r["ms"])) if r["board"] == "mine" else None
        )


def test_table_fit_refuses_a_profile_without_rates(tmp_path):
    (tmp_path / "lat.csv").write_text("network,latency_ms\na,1\n")
    (tmp_path / "layers.csv").write_text(LAYERS)
    with pytest.raises(InputError, match="not additive"):
        read_measured(tmp_path / "lat.csv", tmp_path / "layers.csv", load_profile("ethos-u55-128-vela-int8"))


def test_every_shipped_profile_has_its_recipe():
    for name, recipe in recipes().items():
        shipped = load_profile(name)
        assert shipped.threads == recipe["threads"]
        assert f"--recipe {name} " in shipped.provenance.recipe
    with pytest.raises(InputError, match="no recipe"):
        build("rpi9", Path("nowhere"), "2026-01-01")


def test_unknown_arm_core():
    with pytest.raises(InputError, match="no MACs-per-cycle"):
        arm_kernels("z80", "fp32", 4, 1, 1)
    rate = arm_kernels("a76", "fp16", 2400, 4, 5585)["conv"]["macs_per_second"]
    assert rate == pytest.approx(12.67 * 2.4e9 * 4)


@pytest.mark.parametrize(
    ("name", "size", "mega_macs"),
    [
        ("mobilenet_v1_1.0_imagenet", 224, 568.74),
        ("mobilenet_v2_1.0_imagenet", 224, 300.77),
        ("mobilenet_v2_1.4_imagenet", 224, 582.19),
        ("mobilenetv2_a050_pt", 224, 97.13),
        ("mobilenet_a025_pt", 224, 41.03),
    ],
)
def test_mobilenet_layers_have_the_papers_macs(name, size, mega_macs):
    found = mobilenet_rows(name, size)
    assert found is not None
    assert sum(row.macs for row in found[1]) / 1e6 == pytest.approx(mega_macs, abs=0.02)


@pytest.mark.slow
def test_shipped_profiles_can_be_made_again_from_their_data():
    data = os.environ.get("DTP_EDGE_HARDWARE_DATA")
    if not data:
        pytest.skip("DTP_EDGE_HARDWARE_DATA does not name the folder of measured data")
    for name in recipes():
        shipped = load_profile(name).document
        again = build(name, Path(data), shipped["provenance"]["date"])
        assert again == shipped, name
