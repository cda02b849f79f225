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

__all__ = ["moments_of_channels", "restate_norms"]


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
        if (moments := moments_of_channels(found)) is None:
            return  # one value has no spread
        new_mean, new_variance = moments
        scale = gain.double() * (variance.double() + epsilon).rsqrt()
        offset.copy_(offset.double() + scale * (new_mean - mean.double()))
        gain.copy_(scale * (new_variance + epsilon).sqrt())
        mean.copy_(new_mean)
        variance.copy_(new_variance)
        self.count += 1


def moments_of_channels(parts: list[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return mean and variance over all but dimension 1 of all parts, none copied; None of a single value.

    Those of the parts are combined as in Chan, Golub and LeVeque 1983, Algorithms for computing the sample
    variance.
    """
    count, mean, rest = 0, torch.zeros(()), torch.zeros(())
    for x in parts:
        more = x.numel() // x.shape[1]
        variance, other = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
        step, share = other.double() - mean, more / (count + more)
        rest = rest + more * variance.double() + step**2 * (count * share)
        mean = mean + step * share
        count += more
    return None if count < 2 else (mean, rest / (count - 1))
