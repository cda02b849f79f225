r"""Least squares at the cut: what reads the remaining channels makes up for those that went.

After hardening, every convolution and linear layer of the compact network is fitted, in the order in which
they run, so that its output on some images is again the dense network's. With $X$ the layer's input patches
in the compact network (its earlier layers fitted already, so that their errors are corrected too), $Y$ the
dense network's output at the channels that are kept, and $W_0$ the weights as cut:

$$\min_W \tfrac1n \lVert Y - X W^T \rVert^2 + \rho\,\tau \lVert W - W_0 \rVert^2, \qquad
  \tau = \tfrac1{nd} \lVert X \rVert^2$$

which is one Cholesky factor of a d x d matrix a layer (d: inputs of a neuron), and no optimiser step. The
mean is left out of both sides where a bias or a batch norm takes it up. Batch norm's running statistics are
re-estimated on the way; a neuron in front of one keeps the norm of its weights, which the batch norm cannot
see but on which the size of later optimiser steps depends (a target that cannot be explained would leave a
neuron near 0, and its gradient near infinity).

A fit may not do harm: a layer keeps its weights where the error on rows that were not fitted does not fall,
and all layers do where the network's output does not come nearer to the dense one. The idea of fitting
consumers to the dense features is that of ThiNet (Luo et al. 2017) and of channel pruning (He et al. 2017);
here all layers are fitted in one pass over both graphs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.surgery.compaction import Compact
from dtp_edge.surgery.fitting import Fitting, Refit
from dtp_edge.surgery.in_context import InContext
from dtp_edge.surgery.norm_statistics import restate_norms
from dtp_edge.surgery.reference import LEAST_ROWS, ROWS_PER_INPUT, Reference
from dtp_edge.surgery.sequels import groups_of, weight_of

MORE = 4.0  # rows of a fit in context, times those of a plain one
_BYTES = 2**30  # of the dense outputs that a fit in context holds


@torch.no_grad()
def refit(
    network: PrunableNetwork,
    compacted: Compact,
    dense: Mapping[str, Tensor],
    inputs: tuple[Any, ...] | list[tuple[Any, ...]],
    *,
    ridge: float = 0.1,
    seed: int = 0,
    streams: bool = False,
    effort: float = 1.0,
) -> list[Refit]:
    """Fit the compact network's layers in place to the dense network's outputs on `inputs`.

    `dense` has the tensors of the dense network that is imitated, by name (a state dict); what it lacks is
    taken from `network`. `inputs` is one batch, as large as memory allows (512 small images do), or a list of
    batches. `ridge` pulls towards the weights as cut: 0.1 keeps what training under the masks has taught
    them, 0.01 suits weights that were cut without it. With `streams` a layer is fitted to what follows it,
    see above, on more rows. Of these the share `effort` is read: less than 1 will do to choose between cuts.
    Layers that cannot be fitted keep their weights, with the reason in the result.
    """
    batches = inputs if isinstance(inputs, list) else [inputs]
    module = compacted.graph_module
    layers = layers_of(module.graph, grouped=streams)
    context: dict[str, Any] = {"effort": effort}
    if streams:
        effort *= _effort(layers, dict(module.state_dict()))
        context = {"streams": True, "branches": compacted.branches, "effort": effort}
    wanted = Reference(network.graph_module, dense, layers, compacted.kept, seed, **context)
    target = wanted.run(batches)
    tensors = {name: t for name, t in module.state_dict().items() if t.is_floating_point()}
    before = {name: t.clone() for name, t in tensors.items()}
    unfitted = Fitting(module, wanted, dict.fromkeys(layers, "not yet"), ridge).run(batches)
    for name, tensor in tensors.items():  # its norms were estimated for the weights as cut
        tensor.copy_(before[name])
    fitting = (InContext if streams else Fitting)(module, wanted, layers, ridge)
    fitted = fitting.run(batches)
    if _distance(fitted, target) < _distance(unfitted, target):
        return fitting.rows
    for name, tensor in tensors.items():
        tensor.copy_(before[name])
    reason = "the network's output did not come nearer to the dense one's"
    return [Refit(r.name, r.before, r.after, r.reason or reason) for r in fitting.rows]


def refit_to_train(
    network: PrunableNetwork,
    compacted: Compact,
    dense: Mapping[str, Tensor],
    inputs: list[tuple[Any, ...]],
    *,
    ridge: float = 0.1,
    seed: int = 0,
) -> list[Refit]:
    """`refit` a cut that is trained next: where branches may go with `streams`, in a form that lasts."""
    streams = bool(network.branches)
    rows = refit(network, compacted, dense, inputs, ridge=ridge, seed=seed, streams=streams)
    if streams:
        restate_norms(compacted.graph_module, inputs)
    return rows


def _effort(layers: Mapping[str, str | None], tensors: Mapping[str, Tensor]) -> float:
    """How many times more rows than the least a fit in context reads: `MORE`, less where memory says so."""
    fitted = [tensors[name] for name, reason in layers.items() if reason is None and name in tensors]
    rows = [max(LEAST_ROWS, ROWS_PER_INPUT * weight[0].numel()) for weight in fitted]
    held = sum(8 * count * len(weight) for count, weight in zip(rows, fitted, strict=True))
    return min(MORE, max(1.0, _BYTES / max(held, 1)))


def _distance(out: Any, target: Any) -> float:
    """Summed squared difference of two networks' outputs, relative to the second's."""
    terms: dict[int, list[float]] = {}
    for one, other in zip(out, target, strict=True):
        for i, (a, b) in enumerate(zip(tree_leaves(one), tree_leaves(other), strict=True)):
            if isinstance(b, Tensor) and b.is_floating_point() and a.shape == b.shape:
                sums = terms.setdefault(i, [0.0, 0.0])
                sums[0] += (a - b).double().square().sum().item()
                sums[1] += b.double().square().sum().item()
    found = [error / max(size, 1e-30) for error, size in terms.values()]
    return sum(found) if all(map(math.isfinite, found)) else math.inf


def layers_of(graph: fx.Graph, *, grouped: bool = False) -> dict[str, str | None]:
    """Weight name -> None, or why the layer cannot be fitted."""
    found: dict[str, str | None] = {}
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "get_attr":
            uses[str(node.target)] += len(node.users)
    for node in graph.nodes:
        name = weight_of(node)
        if name is None:
            continue
        found[name] = None
        if uses[name] > 1:
            found[name] = "its weight is used more than once"
        elif groups_of(node) != 1 and not grouped:
            found[name] = "a grouped convolution"
    return found
