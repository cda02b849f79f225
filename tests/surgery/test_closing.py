"""Branches taken away: masked == compact == ONNX Runtime == the archive, and the user's own module."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.problems.keeps import random_depth
from benchmarks.problems.random_branches import ADDITIONS, BranchedNetwork
from benchmarks.problems.random_networks import trace_quickly
from dtp_edge.archive import load_pruned, save_pruned
from dtp_edge.errors import CheckError
from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.ops.nodes import op_name
from dtp_edge.proof import check_depends_on_input, check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact, put_back
from dtp_edge.surgery.difference import relative_error
from tests.helpers.branched import BRANCHED, Basic, Classifier, branched, unit


def deep(name):
    model, x = branched(name)
    return trace_network(model, (x,), depth=True)


def closing(network, *names):
    keep = np.ones(network.n_atoms, dtype=bool)
    for branch in network.branches:
        keep[branch.atom] = branch.name not in names
    return keep


def difference(network, keep, cut):
    x = random_like(network.example_inputs, 7, torch.float64)
    with torch.no_grad():
        masked = leaves(MaskedNetwork(network, keep).eval()(*x))
        return relative_error(masked, leaves(cut.graph_module(*x)))


@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_each_branch_alone_and_many_at_once_are_cut_exactly(name):
    network = copied_network(deep(name), dtype=torch.float64)
    keeps = [random_depth(network, share, seed) for seed, share in enumerate((0.6, 0.3))]
    keeps += [closing(network, branch.name) for branch in network.branches[:3]]
    for keep in keeps:
        assert difference(network, keep, compact(network, keep, in_place=False)) <= 1e-9


@pytest.mark.parametrize("name", ["basic", "inverted", "vit", "fpn", "conformer"])
def test_what_is_left_is_a_file_and_an_archive_that_compute_the_same(name, tmp_path):
    network = deep(name)
    keep = random_depth(network, 0.6, 1)
    result = compact(network, keep)
    checks = [
        check_masked_equals_compact(network, keep, result),
        check_masked_equals_compact(network, keep, result, randomise=True),
        check_depends_on_input(network, keep, result),
    ]
    path = export_onnx(result.module, network.example_inputs, tmp_path / "model.onnx")
    checks.append(check_onnx(path, result.graph_module, network.example_inputs))
    assert all(c.passed for c in checks), checks
    save_pruned(tmp_path, result, network, keep)
    x = random_like(network.example_inputs, 3)
    with torch.no_grad():
        again = leaves(load_pruned(tmp_path).eval()(*x))
        assert relative_error(leaves(result.graph_module(*x)), again) <= 1e-6
    document = json.loads((tmp_path / "widths.json").read_text())
    gone = {row["name"] for row in document["branches"] if not row["kept"]}
    assert gone == {b.name for b in result.branches}
    assert not set(document["tensors"]) & {n for n, dims in document["kept"].items() if dims == {"0": []}}


def test_kept_says_enough_to_repeat_the_surgery_by_hand():
    network = deep("basic")
    keep = closing(network, "body.1", "body.2")
    result = compact(network, keep, in_place=False)
    gone = {name for name, dims in result.kept.items() if dims == {0: []}}
    assert gone == {p for b in result.branches for p in b.parameters}
    state = network.module.state_dict()
    by_hand = Classifier(
        6, nn.ReLU(), nn.Identity(), Shortcut(network.module.body[2]), network.module.body[3]
    )
    left = {n: t for n, t in state.items() if n not in gone}
    missing = by_hand.load_state_dict(left, strict=False).missing_keys
    assert not missing
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(by_hand.eval()(x), result.graph_module(x), rtol=1e-4, atol=1e-5)


class Shortcut(nn.Module):
    """What is left of a projected block."""

    def __init__(self, block: Basic) -> None:
        super().__init__()
        self.downsample, self.relu = block.downsample, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.downsample(x))


IN_PLACE = {  # network, the branches that go, and what stands in their place
    "a block": ("basic", ["body.1"], {"body.1": "Identity"}),
    "behind a projection": ("basic", ["body.2"], {"body.2.conv1": "Identity", "body.2.conv2": "Skipped"}),
    "an inverted residual": ("inverted", ["body.0"], {"body.0": "Identity"}),
    "attention and mlp": ("vit", ["blocks.1.mlp", "blocks.1.attn"], {"blocks.1": "Identity"}),
    "the attention": ("vit", ["blocks.0.attn"], {"blocks.0.norm1": "Identity", "blocks.0.attn": "Skipped"}),
    "the mlp": ("vit", ["blocks.0.mlp"], {"blocks.0.norm2": "Identity", "blocks.0.mlp": "Skipped"}),
    "a block with a scale": ("convnext", ["body.0"], {"body.0": "Identity"}),
    "the inner branch": ("nested", ["body.0.inner"], {"body.0.inner": "Skipped"}),
}


@pytest.mark.parametrize("case", sorted(IN_PLACE))
def test_the_own_module_loses_its_block(case):
    name, gone, wanted = IN_PLACE[case]
    network = deep(name)
    keep = closing(network, *gone)
    result = compact(network, keep)
    assert result.kind == "module", result.reason
    found = {path: type(result.module.get_submodule(path)).__name__ for path in wanted}
    assert found == wanted
    assert not [n for n, p in result.module.named_parameters() if not p.numel()]
    assert check_masked_equals_compact(network, keep, result, randomise=True).passed
    put_back(network, result)
    assert check_masked_equals_compact(network, keep, result).passed


def test_a_skipped_module_leaves_nothing_in_the_file(tmp_path):
    network = deep("vit")
    result = compact(network, closing(network, "blocks.0.mlp", "blocks.1.attn"))
    path = export_onnx(result.module, network.example_inputs, tmp_path / "own.onnx")
    other = export_onnx(result.graph_module, network.example_inputs, tmp_path / "graph.onnx")
    operators = [sorted(n.op_type for n in onnx.load(p).graph.node) for p in (path, other)]
    assert result.kind == "module"
    assert operators[0] == operators[1]


def test_a_function_without_a_module_of_its_own_gives_the_graph():
    network = deep("conformer")
    result = compact(network, closing(network, "body.0.attn"))
    assert result.kind == "graph"
    assert result.reason


def test_an_activation_that_does_something_stays():
    """relu behind an addition whose shortcut may be negative."""
    network = trace_network(Classifier(6, Basic(6)).eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    keep = closing(network, "body.0")
    result = compact(network, keep)
    assert check_masked_equals_compact(network, keep, result, randomise=True).passed
    kinds = [op_name(n).rstrip("_") for n in result.graph_module.graph.nodes if n.op == "call_function"]
    assert kinds.count("relu") == 1


class Reused(nn.Module):
    """Writes in place to the sum, and reads what was added later on."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.f = unit(3, 6, act=False), unit(6, 6, act=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        y = self.f(x)
        y += x
        y[:, :2] *= 3.0
        return y.relu_(), x


def test_what_stays_is_not_written_to_where_others_read_it():
    network = copied_network(
        trace_network(Reused().eval(), (torch.randn(2, 3, 8, 8),), depth=True), dtype=torch.float64
    )
    (branch,) = network.branches
    keep = closing(network, branch.name)
    assert difference(network, keep, compact(network, keep, in_place=False)) <= 1e-9


def test_tensors_that_only_closed_branches_read_go_too():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.t, self.f, self.g = (
                nn.Parameter(torch.randn(6, 1, 1)),
                unit(6, 6, act=False),
                unit(6, 6, act=False),
            )

        def forward(self, x: Tensor) -> Tensor:
            w = self.t.sigmoid()
            x = x + self.f(x * w)
            return x + self.g(x * w)

    network = trace_network(Classifier(6, Gated(), unit(6, 6)).eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    one = compact(network, closing(network, network.branches[0].name), in_place=False)
    both = compact(network, closing(network, *(b.name for b in network.branches)), in_place=False)
    assert "body.0.t" not in one.kept
    assert both.kept["body.0.t"] == {0: []}


def test_a_keep_vector_that_leaves_no_network_is_refused():
    network = deep("basic")
    with pytest.raises(CheckError, match=r"body\.2 and body\.2\.downsample"):
        compact(network, closing(network, "body.2", "body.2.downsample"))


def test_open_gates_cut_as_without_depth(tmp_path):
    model, x = branched("basic")
    plain, network = trace_network(model, (x,)), trace_network(model, (x,), depth=True)
    keep = np.ones(plain.n_atoms, dtype=bool)
    keep[[1, 3, 8]] = False
    one = compact(plain, keep)
    other = compact(network, np.concatenate([keep, np.ones(len(network.branches), dtype=bool)]))
    assert (one.kept, one.kind, other.branches) == (other.kept, other.kind, ())
    assert str(one.graph_module.graph) == str(other.graph_module.graph)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    forms=st.lists(st.sampled_from(sorted(ADDITIONS)), min_size=1, max_size=2),
    seed=st.integers(0, 999),
    share=st.sampled_from([1.0, 0.5, 0.0]),
)
def test_random_networks_without_some_of_their_branches_are_cut_exactly(forms, seed, share):
    network = trace_quickly(BranchedNetwork(seed, tuple(forms)).eval(), dynamic_batch=False, depth=True)
    randomise_tensors(network, seed)
    network = copied_network(network, dtype=torch.float64)
    keep = random_depth(network, share, seed)
    assert difference(network, keep, compact(network, keep, in_place=False)) <= 1e-9
