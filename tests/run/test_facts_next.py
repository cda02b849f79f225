"""The staircase that the report draws, and what it says to try next."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.graph.branches import Depth
from dtp_edge.measure import load_profile
from dtp_edge.run.facts_next import suggestions
from dtp_edge.run.facts_widths import FREE, OneWidth, group_rows, staircase_atoms
from dtp_edge.zoo import create

STEPPED = "epyc-zen5-onnxruntime-fp32-1t"  # channels run in blocks of 16


@pytest.fixture(scope="module")
def network() -> PrunableNetwork:
    return trace_network(create("resnet8").eval(), torch.randn(1, 3, 32, 32))


def one_width(network: PrunableNetwork, device: str, kept: dict[str, int]) -> OneWidth:
    keep = np.ones(network.n_atoms, dtype=bool)
    for group in network.groups:
        keep[group.start + kept.get(group.name, group.stop - group.start) : group.stop] = False
    return OneWidth(network, keep, NetworkCost(network.layers, load_profile(device)))


@pytest.mark.parametrize(("total", "step"), [(64, 8), (128, 16), (512, 16), (2048, 8), (2048, 32)])
def test_a_staircase_shows_both_sides_of_its_jumps(total: int, step: int) -> None:
    kept = total // 3
    widths = staircase_atoms(total, step, kept)
    assert {1, kept, total} <= set(widths.tolist())
    assert len(widths) <= 200
    jumps = [w for w in widths.tolist() if w % step == 0 and w < total]
    assert len(jumps) >= min(total // step - 1, 32)
    assert all(w + 1 in widths for w in jumps), "a flat step needs its last width and the one after it"


def test_the_staircase_passes_through_the_network_that_was_kept(network: PrunableNetwork) -> None:
    widths = one_width(network, STEPPED, {"blocks.2.conv1": 48, "blocks.1.conv1": 17})
    for row in group_rows(widths):
        at = {p["width"]: p["latency_ms"] for p in row["staircase"]}
        assert at[row["kept"]] == pytest.approx(widths.now["latency_ms"], rel=1e-9), row["name"]


def test_what_is_called_free_costs_nothing_when_it_is_tried(network: PrunableNetwork) -> None:
    widths = one_width(network, STEPPED, {"blocks.2.conv1": 41, "blocks.1.conv1": 16})
    by_name = {g.name: g for g in network.groups}
    group = by_name["blocks.2.conv1"]
    free = widths.free_atoms(group, {})
    assert free == 7  # up to the block of 48
    mask = widths.mask.copy()
    mask[group.start : group.start + 41 + free] = 1.0
    assert widths.costs(mask)["latency_ms"] <= (1 + FREE) * widths.now["latency_ms"]
    assert widths.free_atoms(by_name["blocks.1.conv1"], {}) == 0
    few = {"params": widths.now["params"] + 1.0}
    assert widths.free_atoms(group, few) == 0, "free of time, but over the budget of parameters"


def test_what_is_called_free_breaks_no_keep_ratio(network: PrunableNetwork) -> None:
    kept = {"blocks.2.conv1": 41, "blocks.1.conv1": 16}
    widths = one_width(network, STEPPED, kept)
    group = next(g for g in network.groups if g.name == "blocks.2.conv1")
    channels = widths.mask.sum()
    assert widths.free_atoms(group, {"kept_channels": channels + 3}) == 3
    capped = OneWidth(network, widths.mask > 0, widths.cost, {group.name: 44})
    assert capped.free_atoms(group, {}) == 3, "seven would be free, three are within its keep ratio"


@pytest.mark.parametrize("kept", [range(8), range(8, 16), (1, 4, 9, 15)])
def test_one_width_keeps_the_channels_that_were_kept_and_then_the_first_removed(kept: Sequence[int]) -> None:
    """On a cost that tells every channel from every other, as kernels that read a part of them would."""
    group = SimpleNamespace(name="g", kind="channels", start=2, stop=18, channels_per_atom=1)
    layers = SimpleNamespace(sizes=lambda mask: mask, widths=[])
    price = 2.0 ** np.arange(20)
    cost: Any = SimpleNamespace(evaluate=lambda mask: {"latency_ms": float(price @ mask)}, channel_steps=list)
    before, after = (
        SimpleNamespace(name=name, kind="channels", start=start, stop=start + 2, channels_per_atom=1)
        for name, start in (("before", 0), ("after", 18))
    )
    network: Any = SimpleNamespace(
        groups=[before, group, after], layers=layers, n_atoms=20, branches=(), depth=Depth()
    )
    keep = np.ones(20)
    keep[2:18] = [i in kept for i in range(16)]
    widths = OneWidth(network, keep, cost)
    member: Any = group
    assert widths.at(member, len(kept)) == widths.now
    fewer = widths.now["latency_ms"] - price[2 + max(kept)]
    assert widths.at(member, len(kept) - 1)["latency_ms"] == fewer
    following = min(set(range(16)) - set(kept))
    assert widths.at(member, len(kept) + 1)["latency_ms"] == widths.now["latency_ms"] + price[2 + following]


def report(**changes: Any) -> dict[str, Any]:
    latency = {"metric": "latency_ms", "limit": 1.0, "pruned_predicted": 0.99, "pruned_measured": 0.98}
    layers = [{"name": f"l{i}", "module": f"m{i}", "pruned_latency_ms": 1.0} for i in range(5)]
    return {
        "budgets": [latency],
        "layers": layers,
        "memory": {"pruned": [{"layer": "l1", "live_bytes": 2048.0}]},
        "accuracy": {"control": 0.9, "pruned": 0.9, "at_cut": 0.85, "int8": None},
        "frozen": [{"name": "head", "code": "output", "reason": "network output (output)"}],
        "device": {"name": "d", "title": "Board"},
        "curves": [{"phase": "masks"}, {"phase": "fine-tune"}],
        **changes,
    }


def test_nothing_stands_out_where_all_is_well(network: PrunableNetwork) -> None:
    assert suggestions(report(), one_width(network, STEPPED, {}), {}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accuracy": None}, "--data"),
        ({"accuracy": {"control": 0.9, "pruned": 0.85}}, "5.0 points are lost"),
        ({"accuracy": {"control": 0.9, "pruned": 0.9, "at_cut": 0.5}}, "more epochs for the masks"),
        ({"accuracy": {"control": 0.9, "pruned": 0.9, "int8": 0.8}}, "int8 costs 10.0 points"),
        (
            {"frozen": [{"name": "rnn", "code": "no-rule", "reason": "no rule knows aten.lstm"}]},
            "rnn could not be pruned",
        ),
    ],
)
def test_each_number_that_is_off_gets_its_sentence(
    network: PrunableNetwork, changes: dict[str, Any], said: str
) -> None:
    texts = suggestions(report(**changes), one_width(network, STEPPED, {}), {})
    assert len(texts) == 1
    assert said in texts[0]


def test_masks_that_were_not_learned_need_no_more_epochs(network: PrunableNetwork) -> None:
    repaired = {
        "accuracy": {"control": 0.9, "pruned": 0.9, "at_cut": 0.5},
        "curves": [{"phase": "fine-tune"}],
    }
    assert suggestions(report(**repaired), one_width(network, STEPPED, {}), {}) == []


def test_the_budget_that_decides_is_named(network: PrunableNetwork) -> None:
    rows = [
        {"metric": "latency_ms", "limit": 1.0, "pruned_predicted": 0.5, "pruned_measured": 0.5},
        {"metric": "flash_bytes", "limit": 100.0, "pruned_predicted": 99.9},
    ]
    texts = suggestions(report(budgets=rows), one_width(network, STEPPED, {}), {})
    assert texts == ["Flash decides; there is room in latency (50 % used)."]


def test_the_layer_of_the_memory_peak_and_the_slowest_layer_are_named(network: PrunableNetwork) -> None:
    slow = report()
    slow["layers"][1]["pruned_latency_ms"] = 20.0
    texts = suggestions(slow, one_width(network, STEPPED, {}), {"peak_ram_bytes": 4096.0})
    assert any("m1 alone takes 83 %" in t for t in texts)
    assert any("Peak RAM is reached at m1 (2.00 KiB)" in t for t in texts)
