r"""Distilling block outputs: which part of the dense network's stream a cut network still has, labels know.

With $s_b$ what a block of the pruned network puts out and $t_b$ the same channels of the dense network's
(batch and positions included), the term that a loss gets is the mean over blocks of

$$\lVert s_b - t_b \rVert^2 \,/\, \lVert t_b \rVert^2$$

so that every block counts alike, whatever its scale: FitNets (Romero et al. 2015) without a regressor, for
the channels are the same ones. Under masks the squares are weighted by them. Nobody names layers: blocks are
those of `graph.block_outputs`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from dtp_edge.graph import PrunableNetwork, mode_of
from dtp_edge.graph.block_outputs import BlockOutput, block_outputs
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.masking import Factors, masked_graph
from dtp_edge.graph.network import TensorLabels, kept_indices
from dtp_edge.training.relative import relative_square
from dtp_edge.training.taps import Taps

__all__ = ["BlockDistillation"]


@dataclass(frozen=True)
class _Place:
    """The same output in both networks, by node or by module, and the labels of what comes out there."""

    ours: str
    theirs: str
    labels: TensorLabels


@dataclass
class BlockDistillation:
    """The block outputs of a network that learns, against those of `teacher`, which the caller runs.

    After both have run on the same inputs, `loss()` compares what they put out on the way.
    """

    teacher: nn.Module
    places: list[_Place]
    ours: Taps
    theirs: Taps
    distance: Callable[[Tensor, Tensor, TensorLabels], Tensor | None]

    @classmethod
    def of_compact(
        cls,
        network: PrunableNetwork,
        keep: np.ndarray,
        student: nn.Module,
        base: nn.Module,
        *,
        in_graph: bool,
    ) -> BlockDistillation | None:
        """Compare a compact network with `base`, the dense one; None where no block can be compared.

        `student` is the user's module cut in place or, with `in_graph`, the compact graph, which may lack
        blocks. `base` is a module like the network's own; `teacher` may be another one with its weights.
        """
        indices: dict[int, Tensor] = {}

        def distance(s: Tensor, t: Tensor, labels: TensorLabels) -> Tensor | None:
            for dim, atoms in enumerate(labels):
                if atoms is not None:
                    if id(atoms) not in indices:
                        indices[id(atoms)] = torch.as_tensor(kept_indices(atoms, keep), device=t.device)
                    t = t.index_select(dim, indices[id(atoms)])
            return relative_square(s, t) if s.shape == t.shape else None

        points = _comparable(network, np.asarray(keep, dtype=bool))
        return _listening(network, points, student, [student] if in_graph else None, base, distance)

    @classmethod
    def of_masked(
        cls, network: PrunableNetwork, mask: Callable[[], Tensor], base: nn.Module
    ) -> BlockDistillation | None:
        """Compare the network under the masks `mask()`, `[n_atoms]`, with `base`, the dense one."""

        def distance(s: Tensor, t: Tensor, labels: TensorLabels) -> Tensor | None:
            weight, values = torch.ones([1] * t.dim(), device=t.device), mask().detach()
            for dim, atoms in enumerate(labels):
                if atoms is not None:
                    shape = [-1 if d == dim else 1 for d in range(t.dim())]
                    (factors,) = Factors([atoms], len(values), values.device)(values)
                    weight = weight * factors.reshape(shape)
            return relative_square(s, t, weight) if s.shape == t.shape else None

        # with masks on activations the traced graph runs, in either mode, in place of the module
        graphs = [masked_graph(network, mode) for mode in (True, False)] if network.node_sites else None
        return _listening(network, _comparable(network, None), network.module, graphs, base, distance)

    def loss(self) -> Tensor | None:
        """Return the term for what both networks did last, a float32 scalar; None where nothing matches."""
        ours, theirs = self.ours.take(), self.theirs.take()
        terms = [
            self.distance(ours[place.ours].float(), theirs[place.theirs].detach().float(), place.labels)
            for place in self.places
            if place.ours in ours and place.theirs in theirs
        ]
        found = [term for term in terms if term is not None]
        return torch.stack(found).mean() if found else None

    def __call__(self, *inputs: Any) -> Tensor:
        """Run the teacher on the inputs that the network was just called with; return the term, or 0."""
        with torch.no_grad(), mode_of(self.teacher, training=False):
            self.teacher(*inputs)
        found = self.loss()
        return torch.zeros(()) if found is None else found

    def close(self) -> None:
        """Stop listening, and leave both networks as they were."""
        self.ours.close()
        self.theirs.close()


def _listening(
    network: PrunableNetwork,
    points: dict[str, BlockOutput],
    student: nn.Module,
    graphs: Sequence[nn.Module] | None,
    base: nn.Module,
    distance: Callable[[Tensor, Tensor, TensorLabels], Tensor | None],
) -> BlockDistillation | None:
    """Tap both networks, by node where `graphs` are what runs, else by module."""
    labels = network.node_labels
    ours, theirs = Taps(learning=True), Taps(learning=False)
    if graphs is None:
        places = [_Place(p.module, p.module, labels.get(p.node, ())) for p in points.values() if p.module]
        if places:
            ours.on_modules(student, [place.ours for place in places])
            theirs.on_modules(base, [place.theirs for place in places])
        return BlockDistillation(base, places, ours, theirs, distance) if places else None
    run = [g for g in graphs if isinstance(g, fx.GraphModule)]
    known = set.intersection(*({n.name for n in g.graph.nodes} for g in run)) if run else set()
    places = [_Place(now, p.node, labels.get(p.node, ())) for now, p in points.items() if now in known]
    if not places or not network.dynamic_batch:
        return None  # a graph of one batch size is no teacher of others
    teacher = _dense_graph(network, base)
    for graph in run:
        ours.on_nodes(graph, [place.ours for place in places])
    theirs.on_nodes(teacher, [place.theirs for place in places])
    return BlockDistillation(teacher, places, ours, theirs, distance)


def _comparable(network: PrunableNetwork, keep: np.ndarray | None) -> dict[str, BlockOutput]:
    """Block outputs of one size whatever the batch, by the node that holds each after the cut `keep`.

    Without a branch its output is what stays, which then stands for the output of the block before too: what
    follows wants the later one.
    """
    values = {n.name: n.meta.get("val") for n in network.graph_module.graph.nodes}
    closed = [] if keep is None else [network.branches[i] for i in network.depth.closed(keep)]
    inside = {name for branch in closed for name in branch.nodes}
    stays = {name: branch.stays for branch in closed for name in (branch.addition, *branch.repeats)}

    def fits(node: str) -> bool:
        labels, value = network.node_labels.get(node, ()), values[node]
        pairs = zip(labels, value.shape, strict=True) if labels else ()
        return all(atoms is None or (isinstance(size, int) and len(atoms) == size) for atoms, size in pairs)

    found: dict[str, BlockOutput] = {}
    for point in block_outputs(network):
        now = point.node
        while now in stays:
            now = stays[now]
        if point.node not in inside and fits(point.node):
            found.pop(now, None)
            found[now] = point
    return found


def _dense_graph(network: PrunableNetwork, base: nn.Module) -> fx.GraphModule:
    """The traced graph with the weights of `base`, which has the names of the network's module."""
    teacher = copy.deepcopy(network.graph_module)
    source = own_tensors(base)
    with torch.no_grad():
        for name, tensor in own_tensors(teacher).items():
            if name in source:
                tensor.data = source[name].detach().clone()
            tensor.requires_grad_(False)
    return teacher.eval()
