"""Branches against brute force, by name, and with a clear word where an addition has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.problems.random_branches import BranchedNetwork
from benchmarks.problems.random_networks import trace_quickly
from dtp_edge.graph import trace_network
from dtp_edge.graph.post_dominance import PostDominance
from dtp_edge.ops.refusal import Code
from tests.helpers.branched import BRANCHED, Basic, Classifier, branched, unit

NAMES = {
    "inverted": ["body.0", "body.1"],
    "resnet8": ["blocks.0", "blocks.1", "blocks.1.shortcut", "blocks.2", "blocks.2.shortcut"],
    "basic": ["body.1", "body.2", "body.2.downsample", "body.3"],
    "convnext": ["body.0", "body.1"],
    "vit": ["blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp"],
    "nested": ["body.0.inner", "body.0", "body.1.inner", "body.1"],
    "unet": ["body.0.bottom", "body.0.down2"],
    "fpn": ["lateral1", "add"],
    "c2f": ["body.0.m.0", "body.0.m.1"],
    "conformer": ["body.0.ff1", "body.0.attn", "body.0.pointwise", "body.0.ff2"],
}


def serving_by_removal(graph, addition, operand):
    """Nodes that cannot reach an output (or a write that nobody reads) once this operand's edge is cut."""
    reaches = {}
    for node in reversed(list(graph.nodes)):
        ends = node.op == "output" or not node.users
        followers = [u for u in node.users if not (u is addition and _reads_once(u, node, operand))]
        reaches[node] = ends or any(reaches[u] for u in followers)
    before = {n for n in graph.nodes if n.op == "output" or n.users}
    return {n for n in before if not reaches[n]}


def _reads_once(addition, node, operand):
    return addition.args[operand] is node and addition.args[1 - operand] is not node


@pytest.mark.parametrize("seed", range(12))
def test_what_serves_an_operand_is_what_node_removal_finds(seed):
    network = trace_quickly(BranchedNetwork(seed, depth=1).eval(), dynamic_batch=False, depth=True)
    graph = network.graph_module.graph
    additions = [n for n in graph.nodes if getattr(n.target, "_opname", "") in ("add", "add_")]
    additions = [n for n in additions if all(isinstance(a, torch.fx.Node) for a in n.args[:2])]
    tree = PostDominance(graph, additions)
    pairs = [(n, i) for n in additions for i in (0, 1) if n.args[0] is not n.args[1]]
    found = {(n.name, i): set(tree.serving(n, i)) for n, i in pairs}
    wanted = {(n.name, i): serving_by_removal(graph, n, i) for n, i in pairs}
    assert pairs
    assert found == wanted


@pytest.mark.parametrize("name", sorted(NAMES))
def test_branches_have_the_names_that_a_person_gives_them(name):
    model, x = branched(name)
    network = trace_network(model, (x,), depth=True)
    assert [b.name for b in network.branches] == NAMES[name]
    assert len({g.name for g in network.groups}) == len(network.groups)


def test_gates_come_after_all_channels_and_lie_in_each_other():
    model, x = branched("nested")
    network, plain = trace_network(model, (x,), depth=True), trace_network(model, (x,))
    channels = len(plain.groups)
    assert network.groups[:channels] == plain.groups
    assert [g.kind for g in network.groups[channels:]] == ["branch"] * 4
    assert [b.parent for b in network.branches] == [1, None, 3, None]
    inner, outer = network.branches[:2]
    assert set(inner.nodes) < set(outer.nodes)
    assert inner.group in outer.groups
    within = {network.groups[i].name for i in outer.groups}
    assert within == {"body.0 stream", "body.0.inner branch"}, within


def test_a_closed_branch_has_no_widths_and_two_forms_that_mean_the_same():
    model, x = branched("nested")
    network = trace_network(model, (x,), depth=True)
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[network.branches[1].atom] = False
    settled, opened = network.settled(keep), network.opened(keep)
    widths = network.widths(keep)
    assert widths["body.0 stream"] == (0, 6)
    assert widths["body.0 branch"] == widths["body.0.inner branch"] == (0, 1)
    assert widths["body.1 branch"] == (1, 1)
    assert not settled[network.branches[0].atom]
    assert keep.sum() - settled.sum() == 6 + 1
    assert keep.sum() - opened.sum() == 1  # the gate within
    assert np.array_equal(network.settled(opened), settled)
    assert np.array_equal(network.opened(settled), opened)


def test_a_network_without_depth_is_what_it_was():
    model, x = branched("basic")
    plain, deep = trace_network(model, (x,)), trace_network(model, (x,), depth=True)
    assert plain.branches == ()
    assert plain.n_atoms == deep.n_atoms - 4
    assert all(gate.kind == "branch" and gate.floor == 0 for gate in deep.groups[len(plain.groups) :])
    assert [g.floor for g in plain.groups] == [1] * len(plain.groups)


def test_a_network_without_additions_has_no_branches_and_nothing_else_changes():
    torch.manual_seed(0)
    model, x = Classifier(6, unit(6, 7), unit(7, 6)).eval(), torch.randn(2, 3, 8, 8)
    plain, deep = trace_network(model, (x,)), trace_network(model, (x,), depth=True)
    assert deep.branches == deep.depth.refused == ()
    assert deep.groups == plain.groups
    assert len(deep.layers.widths) == len(plain.layers.widths)


class Body(nn.Module):
    """One function f and a way to add it."""

    def __init__(self, run, width=6):
        super().__init__()
        self.run = run
        self.f = unit(width, width, act=False)
        self.p = nn.Parameter(torch.randn(1, width, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def write_outside(s, x):
    y = x[:, :3]
    y *= 2.0
    return x + s.f(x)


REFUSED = {
    "alpha on what stays": (lambda s, x: torch.add(s.f(x), x, alpha=0.5), Code.NOT_COVERED),
    "a difference": (lambda s, x: x - s.f(x), Code.NOT_COVERED),
    "lerp": (lambda s, x: torch.lerp(x, s.f(x), 0.3), Code.NOT_COVERED),
    "scaled by one operator": (lambda s, x: torch.addcmul(x, s.p, s.f(x)), Code.NOT_COVERED),
    "costs nothing": (lambda s, x: s.f(x + x.unsqueeze(0).squeeze(0)), Code.FREE),
    "read elsewhere": (lambda s, x: (lambda y: torch.cat([x + y, x * y], 1)[:, :6])(s.f(x)), Code.NEEDED),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_an_addition_without_a_branch_says_why(case):
    run, code = REFUSED[case]
    network = trace_network(Classifier(6, Body(run)).eval(), (torch.randn(2, 3, 16, 16),), depth=True)
    assert network.branches == ()
    (refused,) = network.depth.refused
    assert refused.code == code, refused
    assert refused.name.startswith("body.0")
    assert refused.node
    assert refused.text


TAKEN = {
    "alpha on the branch": lambda s, x: torch.add(x, s.f(x), alpha=0.5),
    "in place on a copy": lambda s, x: x.clone().add_(s.f(x)),
    "in place on its own": lambda s, x: s.f(x).add_(x),
    "another write to the stream": write_outside,
    "with a position too": lambda s, x: x + s.f(x) + s.p,
}


@pytest.mark.parametrize("case", sorted(TAKEN))
def test_other_ways_to_add_have_one(case):
    network = trace_network(Classifier(6, Body(TAKEN[case])).eval(), (torch.randn(2, 3, 16, 16),), depth=True)
    assert [b.name for b in network.branches] == ["body.0"], network.depth.refused


@pytest.mark.parametrize("name", ["body.1", "body.1.conv2", "body.1.conv1.0.weight", "body"])
def test_exclude_keeps_a_branch(name):
    model, x = branched("basic")
    network = trace_network(model, (x,), depth=True, exclude=(name,))
    assert "body.1" not in [b.name for b in network.branches]
    refused = [f for f in network.depth.refused if f.name.startswith("body.1")]
    assert [f.code for f in refused] == [Code.EXCLUDED]
    assert name in refused[0].text


def test_frozen_parameters_keep_a_branch_and_a_network_without_training_keeps_none():
    model, x = branched("basic")
    model.body[1].requires_grad_(False)
    network = trace_network(model, (x,), depth=True)
    assert "body.1" not in [b.name for b in network.branches]
    assert "requires_grad" in network.depth.refused[0].text
    model.requires_grad_(False)
    assert len(trace_network(model, (x,), depth=True).branches) == 4


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.f(x) + self.g(y)


def test_an_input_is_never_left_without_a_reader():
    network = trace_network(TwoInputs().eval(), (torch.randn(2, 4), torch.randn(2, 4)), depth=True)
    assert network.branches == ()
    assert network.depth.refused[0].code == Code.INPUT


class Alone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def test_a_branch_that_is_all_there_is_cannot_go():
    network = trace_network(Alone().eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    keep = np.zeros(network.n_atoms, dtype=bool)
    assert [b.name for b in network.branches] == ["f"]
    fault = network.depth.fault(keep)
    assert fault is not None
    assert fault.code == Code.LAST


def test_of_two_branches_at_one_addition_one_stays():
    model, x = branched("basic")
    network = trace_network(model, (x,), depth=True)
    main, shortcut = network.branches[1:3]
    assert (main.twin, shortcut.twin) == (2, 1)
    keep = np.ones(network.n_atoms, dtype=bool)
    for branch in (main, shortcut):
        keep[branch.atom] = False
        alone = np.ones(network.n_atoms, dtype=bool)
        alone[branch.atom] = False
        assert network.depth.fault(alone) is None
    fault = network.depth.fault(keep)
    assert fault is not None
    assert main.name in fault.text
    assert shortcut.name in fault.text


def test_an_activation_goes_with_the_addition_only_where_it_does_nothing():
    model = Classifier(6, nn.ReLU(), Basic(6), Basic(6, project=True))
    network = trace_network(model.eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    assert [bool(b.repeats) for b in network.branches] == [True, False, False]
    model = Classifier(6, Basic(6))  # what comes from the stem may be negative
    network = trace_network(model.eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    assert [bool(b.repeats) for b in network.branches] == [False]


def test_every_kind_of_network_is_named():
    assert set(NAMES) == set(BRANCHED)
