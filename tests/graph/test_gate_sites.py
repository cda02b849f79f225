"""y = a + z b: against an interpreter that says so, its gradient by finite differences, and who carries z."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from benchmarks.problems.random_branches import BranchedNetwork
from benchmarks.problems.random_networks import trace_quickly
from dtp_edge.graph import MaskedNetwork, masked_forward, mode_of, trace_network
from dtp_edge.graph.leaves import leaves
from dtp_edge.graph.modes import bind_mode
from dtp_edge.proof.equality import copied_network, randomise_tensors
from tests.helpers.branched import BRANCHED, Classifier, branched, unit


class Gated(fx.Interpreter):
    """The dense graph, with the gated operand of every addition times its gate: the definition itself."""

    def __init__(self, network, mask: Tensor) -> None:
        super().__init__(network.graph_module)
        self._gates = {(b.addition, b.operand): mask[b.atom] for b in network.branches}

    def run_node(self, n: fx.Node):
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "call_function":
            scaled = [
                a * self._gates[n.name, i] if (n.name, i) in self._gates else a for i, a in enumerate(args)
            ]
            return n.target(*scaled, **kwargs)
        return super().run_node(n)


def in_double(model, x):
    network = copied_network(trace_network(model, (x,), depth=True), dtype=torch.float64)
    network.module.eval()
    return network


def mask_with_gates(network, seed):
    mask = torch.ones(network.n_atoms, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for branch in network.branches:
        mask[branch.atom] = 0.1 + 0.8 * torch.rand((), generator=generator)
    return mask


@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_gates_multiply_what_is_added(name):
    network = in_double(*branched(name))
    mask = mask_with_gates(network, 1)
    with torch.no_grad():
        wanted = leaves(Gated(network, mask).run(*network.example_inputs))
        found = leaves(masked_forward(network, None, mask, network.example_inputs))
        dense = leaves(network.module(*network.example_inputs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert max(float((a - b).abs().max()) for a, b in zip(found, dense, strict=True)) > 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_gates_multiply_in_random_networks(seed):
    network = trace_quickly(BranchedNetwork(100 + seed).eval(), dynamic_batch=False, depth=True)
    randomise_tensors(network, seed)
    network = copied_network(network, dtype=torch.float64)
    network.module.eval()
    mask = mask_with_gates(network, seed)
    with torch.no_grad():
        wanted = leaves(Gated(network, mask).run(*network.example_inputs))
        found = leaves(masked_forward(network, None, mask, network.example_inputs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "training"),  # convnext's stochastic depth draws anew at each call in training
    [
        (n, t)
        for n in ("basic", "nested", "unet", "convnext")
        for t in (False, True)
        if (n, t) != ("convnext", True)
    ],
)
def test_gradient_of_a_gate_is_the_finite_difference(name, training):
    model, x = branched(name)
    model, x = model.double(), x.double()
    network = trace_network(model, (x,), depth=True)
    mask = mask_with_gates(network, 3).requires_grad_()
    with mode_of(model, training=training):

        def loss(m: Tensor) -> Tensor:
            return sum(y.square().sum() for y in leaves(masked_forward(network, None, m, (x,))))

        (gradient,) = torch.autograd.grad(loss(mask), mask)
        for branch in network.branches:
            step = torch.zeros_like(mask)
            step[branch.atom] = 1e-6
            with torch.no_grad():
                slope = (loss(mask + step) - loss(mask - step)) / 2e-6
            assert gradient[branch.atom] == pytest.approx(float(slope), rel=1e-4, abs=1e-6)
            assert abs(float(slope)) > 1e-6


def test_a_gate_stands_behind_a_norm_in_training_too():
    """In train mode the own forward with gates is the traced graph, in train mode, with gates."""
    model, x = branched("basic")
    model, x = model.double(), x.double()
    network = trace_network(model, (x,), depth=True)
    assert not network.node_sites  # the own forward runs
    mask = mask_with_gates(network, 5)
    graph = copied_network(network)
    bind_mode(graph.graph_module.graph)
    graph.graph_module.recompile()
    with mode_of(model, graph.graph_module, training=True), torch.no_grad():
        wanted = leaves(Gated(graph, mask).run(x))
        found = leaves(masked_forward(network, None, mask, (x,)))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-9, atol=1e-9)


ENDS = {  # what ends the branch, and the parameters that carry its gate (None: it acts in the graph)
    "norm": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), ["1.weight", "1.bias"]),
    "convolution": (lambda: nn.Conv2d(6, 6, 1), ["weight", "bias"]),
    "dropout": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.Dropout(0.1)), ["0.weight"]),
    "activation": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU()), None),
    "bare norm": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, affine=False)), None),
}


class Adds(nn.Module):
    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


@pytest.mark.parametrize("end", sorted(ENDS))
def test_who_carries_a_gate(end):
    make, carriers = ENDS[end]
    network = trace_network(Classifier(6, Adds(make())).eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    gate = network.branches[0].atom
    found = [s.tensor for s in network.parameter_sites if s.atoms.tolist() == [[gate]]]
    on_graph = [s.node for s in network.node_sites if s.atoms.tolist() == [[gate]]]
    if carriers is None:
        assert (found, on_graph) == ([], [network.branches[0].addition])
    else:
        assert (found, on_graph) == ([f"body.0.f.{name}" for name in carriers], [])


def test_a_parameter_that_two_read_carries_no_gate():
    shared = nn.Conv2d(6, 6, 1)
    network = trace_network(
        Classifier(6, Adds(shared), unit(6, 6), Adds(shared)).eval(), (torch.randn(2, 3, 8, 8),), depth=True
    )
    gates = {b.atom for b in network.branches}
    assert len(gates) == 2
    assert {int(s.atoms[0, 0]) for s in network.node_sites} == gates


def test_keep_vectors_of_closed_branches_mask_without_dividing_by_nothing():
    """A layer norm over the channels of a closed branch must not make a NaN of 0 times it."""
    body = nn.Sequential(nn.Conv2d(6, 4, 1), nn.GroupNorm(1, 4), nn.ReLU(), nn.Conv2d(4, 6, 1))
    network = trace_network(Classifier(6, Adds(body)).eval(), (torch.randn(2, 3, 8, 8),), depth=True)
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[network.branches[0].atom] = False
    for form in (keep, network.settled(keep), network.opened(keep)):
        assert torch.isfinite(MaskedNetwork(network, form)(torch.randn(2, 3, 8, 8))).all()
