"""Every specification: labels by brute force, cut equals mask, costs by any name, stored and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.brute_force import label, uncovered, unknown
from helpers.specified import RANDOM, Around, examples, filled, overload, tensor

from benchmarks.problems.keeps import random_keep
from dtp_edge import load_profile
from dtp_edge.archive import load_pruned, save_pruned
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import Dim, Layer, LayerGraph, MaskedNetwork, Tensor, trace_network
from dtp_edge.graph.leaves import leaves
from dtp_edge.ops.spec import aliases, specifications
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.difference import relative_error

ALL = examples()
CHUNK = 12
CHUNKS = [ALL[i : i + CHUNK] for i in range(0, len(ALL), CHUNK)]


def test_every_operator_with_a_rule_has_an_example() -> None:
    """Those without one are no operators of this torch, or need what an example cannot say."""
    named = {name for name, _ in ALL}
    without = {n for n, s in specifications().items() if s.label is not None and n not in named}
    assert without == {"getitem", "to", "_assert_tensor_metadata", "quantize_per_tensor", "dequantize"}


@pytest.mark.parametrize("part", range(len(CHUNKS)))
def test_labels_by_brute_force(part: int) -> None:
    for name, number in CHUNKS[part]:
        use = specifications()[name].examples[number]
        torch.manual_seed(0)
        case = (overload(name, use), filled(list(use.args), tensor), dict(use.kwargs))
        assert not unknown(label(case)[0]), name
        if name not in RANDOM:
            assert not uncovered(case), name


@pytest.mark.parametrize("part", range(len(CHUNKS)))
def test_cut_equals_mask_and_is_stored(part: int, tmp_path: Path) -> None:
    model = Around(CHUNKS[part]).eval()
    network = trace_network(model, torch.randn(1, 5))
    bad = [f for f in network.frozen if f.code in ("no-rule", "not-covered", "fault")]
    assert not bad, bad
    randomise_tensors(network, part)
    dtype = torch.float32 if any("fake_quant" in name for name, _ in CHUNKS[part]) else torch.float64
    network = copied_network(network, dtype=dtype)
    keep = random_keep(network, 0.5, part)
    result = compact(network, keep, in_place=False)
    x = torch.randn(1, 5, dtype=dtype)
    names = [
        name for (name, number), readers in zip(CHUNKS[part], model.readers, strict=True) for _ in readers
    ]
    with torch.no_grad():
        masked = leaves(MaskedNetwork(network, keep).eval()(x))
        cut = leaves(result.graph_module(x))
    for name, one, other in zip(names, masked, cut, strict=True):
        assert one.shape == other.shape
        assert name in RANDOM or relative_error([one], [other]) <= (
            1e-9 if dtype == torch.float64 else 1e-5
        ), name
    save_pruned(tmp_path, result, network, keep, {})
    loaded = load_pruned(tmp_path)
    with torch.no_grad():
        again = leaves(loaded.to(dtype)(x))
    for name, one, other in zip(names, cut, again, strict=True):
        assert name in RANDOM or relative_error([one], [other]) <= 1e-6, name


def test_every_operator_with_a_rule_has_a_kernel_family() -> None:
    assert not {n for n, s in specifications().items() if s.label is not None and s.kernel == "other"}


def _one_layer(op: str, inputs: int) -> LayerGraph:
    shape = (Dim(1), Dim(16, 0), Dim(8), Dim(8))
    names = tuple(f"x{i}" for i in range(inputs))
    tensors = {n: Tensor(n, shape, "input") for n in names} | {"y": Tensor("y", shape, "activation")}
    layer = Layer("op", op, "op", names, ("y",), {"dim": 1})
    return LayerGraph((layer,), tensors, (torch.arange(16).int().reshape(-1, 1).numpy(),), 16, names, ("y",))


@pytest.mark.parametrize("profile", ["rpi4-ncnn-fp32-1t", "stm32h747-cubeai-int8", "rpi5-ncnn-fp16-1t"])
def test_an_operator_costs_the_same_by_any_of_its_names(profile: str) -> None:
    loaded = load_profile(profile)
    assert aliases()["clip"] == "clamp"
    for alias, name in aliases().items():
        costs = [NetworkCost(_one_layer(op, 2), loaded) for op in (alias, name, f"aten.{alias}_")]
        rows = [(c.evaluate(c.dense_sizes()), c.extrapolations(), c.lowered.views) for c in costs]
        assert rows[0] == rows[1] == rows[2], alias


class Named(torch.nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.a, self.b, self.plain = torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 4, 3), plain
        self.scale = torch.nn.Parameter(torch.rand(1, 16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        if self.plain:
            y = (y.clamp(0, 6) * y).view_as(y)
            return self.b(y * self.scale.expand(y.shape))
        y = torch.multiply(torch.clip(y, 0, 6), y).reshape_as(y)
        return self.b(y * torch.broadcast_to(self.scale, y.shape))


def test_names_that_python_code_uses_cost_and_prune_alike() -> None:
    costs, cuts = [], []
    for plain in (True, False):
        torch.manual_seed(0)
        model = Named(plain).eval()
        network = trace_network(model, torch.randn(1, 3, 12, 12))
        cost = NetworkCost(network.layers, load_profile("rpi4-ncnn-fp32-1t"))
        costs.append(cost.evaluate(cost.dense_sizes()))
        keep = random_keep(network, 0.5, 0)
        x = torch.randn(1, 3, 12, 12)
        result = compact(network, keep, in_place=False)
        with torch.no_grad():
            masked = MaskedNetwork(network, keep).eval()(x)
            cut = result.graph_module(x)
        assert relative_error([masked], [cut]) < 1e-5
        assert result.graph_module.graph is not None
        cuts.append(dict(result.kept.items()))
    assert costs[0] == costs[1]
    assert cuts[0] == cuts[1]
