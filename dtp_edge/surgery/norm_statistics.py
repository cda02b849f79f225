r"""Batch norms that say the same with the statistics of what now arrives at them.

A fit in context leaves what a layer makes up for in the norm behind it, whose running statistics are then no
longer those of its inputs: in evaluation that is right, but training takes the statistics of each batch, and
so undoes it. Here gain and offset take over what the statistics held,

$$g' = g \sqrt{\frac{v' + \epsilon}{v + \epsilon}}, \qquad o' = o + g\,\frac{m' - m}{\sqrt{v + \epsilon}},$$

with $m'$, $v'$ the mean and the variance of the inputs: the same function in evaluation, and nearly the same
in training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from dtp_edge.surgery.sequels import NORM
from dtp_edge.surgery.walk import Walk

__all__ = ["restate_norms"]


@torch.no_grad()
def restate_norms(module: fx.GraphModule, batches: list[tuple[Any, ...]]) -> int:
    """Give every batch norm with gain, offset and running statistics those of `batches`; return how many."""
    walk = _Restating(module)
    walk.run(batches)
    return walk.count


class _Restating(Walk):
    count = 0

    def before(self, node: fx.Node) -> None:
        if node.target is not NORM:
            return
        _, gain, offset, mean, variance, training, _, epsilon, *_ = self.arguments(node, 0)
        held: tuple[Tensor | None, ...] = (gain, offset, mean, variance)
        if training or any(tensor is None for tensor in held):
            return
        found = [self.arguments(node, i)[0] for i in range(len(self.values[node.all_input_nodes[0]]))]
        x = torch.cat([part.transpose(0, 1).flatten(1) for part in found], 1).double()
        if x.shape[1] < 2:
            return  # one value has no spread
        new_mean, new_variance = x.mean(1), x.var(1)
        scale = gain.double() * (variance.double() + epsilon).rsqrt()
        offset.copy_(offset.double() + scale * (new_mean - mean.double()))
        gain.copy_(scale * (new_variance + epsilon).sqrt())
        mean.copy_(new_mean)
        variance.copy_(new_variance)
        self.count += 1
