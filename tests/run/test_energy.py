"""An energy budget: read in its units, met where a profile knows power, refused where it does not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge import Budget, load_profile, prune_for_device
from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.fitting.recipes.board_power import power_of
from dtp_edge.graph import trace_network
from dtp_edge.profiles.profile import parse_profile
from dtp_edge.zoo import resolve_model

KNOWS = "stm32l4r5-cubeai-int8"


def net() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(24 * 49, 5)).eval()


X = torch.randn(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("typed", "millijoules"), [("5mJ", 5.0), ("250uJ", 0.25), ("1J", 1000.0), (0.5, 0.5)]
)
def test_units(typed, millijoules):
    assert Budget(energy=typed).limits({}) == {"energy_mj": pytest.approx(millijoules)}


@pytest.mark.parametrize("typed", ["5W", "-1mJ", "0mJ", "mJ"])
def test_what_is_no_energy_is_refused(typed):
    with pytest.raises(InputError, match="energy"):
        Budget(energy=typed)


def test_energy_is_time_times_power_and_so_is_its_gradient():
    profile = load_profile(KNOWS)
    cost = NetworkCost(trace_network(net(), (X,)).layers, profile)
    sizes = cost.dense_sizes()
    assert profile.power is not None
    found = cost.evaluate(sizes)
    assert found["energy_mj"] == pytest.approx(found["latency_ms"] * profile.power.watts)
    slope = cost.gradient(sizes, "energy_mj")
    step = np.zeros_like(sizes)
    step[0] = 1.0
    less = cost.evaluate(sizes - step)["energy_mj"]
    assert slope[0] == pytest.approx(found["energy_mj"] - less, rel=1e-6)


def test_a_run_meets_it_and_says_so():
    result = prune_for_device(net(), X, device=KNOWS, budget=Budget(energy="60%"), out=None)
    row = next(r for r in result.report["budgets"] if r["metric"] == "energy_mj")
    profile = load_profile(KNOWS)
    assert row["fits"]
    assert 0.3 * row["dense_predicted"] < row["pruned_predicted"] <= 0.6 * row["dense_predicted"]
    assert profile.power is not None
    assert profile.error.median_relative is not None
    assert row["relative_error_of_profile"] > max(
        profile.power.relative_spread, profile.error.median_relative
    )
    assert row["unit"] == "mJ"


@pytest.mark.parametrize("energy", ["5mJ", "60%"])
def test_a_profile_without_power_refuses_with_the_reason(energy):
    with pytest.raises(InputError, match="stm32h747-cubeai-int8 does not know what the board draws"):
        prune_for_device(net(), X, device="stm32h747-cubeai-int8", budget=Budget(energy=energy), out=None)


def test_the_recipe_takes_the_median_and_states_the_spread(tmp_path):
    (tmp_path / "r.csv").write_text(
        "version,board,task,mode,throughput_inf_s,energy_uJ\n"
        "v1,a,kws,energy,10,4000\nv1,a,ic,energy,5,10000\nv1,a,ad,energy,100,420\n"
        "v1,b,ad,energy,100,9999\nv1,a,vww,performance,3,\n"
    )
    made = power_of(tmp_path, {"file": "r.csv", "board": "a"})
    assert made["watts"] == pytest.approx(0.042)
    assert made["relative_spread"] == pytest.approx(8 / 42, abs=1e-4)
    with pytest.raises(InputError, match="both energy and time"):
        power_of(tmp_path, {"file": "r.csv", "board": "c"})


def test_the_shipped_board_predicts_what_mlperf_tiny_measured():
    """Keyword spotting on the NUCLEO-L4R5ZI, v1.2: 43.15 ms at 42.19 mW are 1.82 mJ."""
    module, inputs, _ = resolve_model("dscnn")
    cost = NetworkCost(trace_network(module, inputs).layers, load_profile(KNOWS))
    assert cost.evaluate(cost.dense_sizes())["energy_mj"] == pytest.approx(1.82, rel=0.1)


def test_power_is_checked_like_the_rest():
    document = copy.deepcopy(dict(load_profile(KNOWS).document))
    document["power"]["watts"] = 0
    with pytest.raises(InputError, match=r"power\.watts"):
        parse_profile(document)
