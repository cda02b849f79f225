r"""A layer fitted to what follows it: the stream that it is added to, and the ReLU that hides part of its
error.

Where a layer's output $z$ goes through a batch norm $a z + b$ and is added to a stream, what counts is the
sum. So the target is the dense network's sum less the compact network's own stream: each block also makes up
for the errors that the stream brings along. Where a ReLU follows, an error below 0 is none: the targets there
move to what the layer makes anyway, min(prediction, 0), and the layer is solved again from the same factor
(Zhang et al. 2016, Accelerating very deep convolutional networks, section 3). The batch norm keeps its
statistics; the shift that is left goes to its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from dtp_edge.surgery.fitting import HELD_OUT, NOT_BETTER, TOO_FEW, Fitting, Refit, Ridge, applied, judges
from dtp_edge.surgery.reference import Reference
from dtp_edge.surgery.sequels import (
    CONV,
    Sequel,
    chosen,
    groups_of,
    running_mean,
    scale_and_shift,
    sequel_of,
    takes_up_means,
)

RECTIFIED = 3  # times that targets below 0 are moved
GROWTH = 3.0  # of a neuron's weights over those of the dense network, at most
_FAINT = 1e-3  # of the median scale of a norm: a neuron that its norm all but switches off is fitted as it is


class InContext(Fitting):
    """`Fitting` that knows each layer's sequel."""

    def __init__(
        self,
        module: fx.GraphModule,
        wanted: Reference,
        layers: Mapping[str, str | None],
        ridge: float,
        rectified: int = RECTIFIED,
    ) -> None:
        super().__init__(module, wanted, layers, ridge)
        self.rectified = rectified
        self.place = {node: i for i, node in enumerate(self.graph.nodes)}

    def fit(self, node: fx.Node, name: str) -> None:
        args = self.arguments(node, 0)
        weight, bias = args[1], args[2] if len(args) > 2 else None
        sequel = sequel_of(node, self.place)
        if len(self.wanted.outputs[name]) < 2 * HELD_OUT:
            self.rows.append(Refit(name, None, None, TOO_FEW))
            return
        judge = judges(len(self.wanted.outputs[name]), weight.device)
        whole = self._aim(node, name, sequel)
        aim, judging = whole.at(~judge), whole.at(judge)
        x, x_judge = self.inputs(node, name, judge, torch.float32)
        centred = takes_up_means(node)
        x_mean = x.mean(0) if centred else torch.zeros_like(x[0])
        x.sub_(x_mean)
        x_judge.sub_(x_mean)
        start = weight.flatten(1).double()
        groups = groups_of(node)
        solver = Ridge(x, start, self.ridge, groups)

        def solved(target: Tensor) -> tuple[Tensor, Tensor]:
            z = aim.before_norm(target)
            mean = z.mean(0) if centred else torch.zeros_like(z[0])
            return solver.weights(z - mean), mean

        best, mean = solved(aim.target)
        plain = mean
        for _ in range(self.rectified if sequel.relu else 0):
            made = aim.after_norm(applied(x, best, groups) + mean)
            best, mean = solved(torch.where(aim.target > 0, aim.target, made.clamp_max(0.0)))
        best = _bounded(best, start, self.wanted.norms[name])
        pairs = ((start, plain), (best, mean))
        before, after = (judging.error(applied(x_judge, w, groups) + m, sequel.relu) for w, m in pairs)
        better = after < before
        self.rows.append(Refit(name, before, after, None if better else NOT_BETTER))
        weights, mean = pairs[1] if better else pairs[0]
        if better:
            weight.copy_(weights.view_as(weight))
        shift = mean - applied(x_mean[None], weights, groups)[0]
        if bias is not None:
            bias.copy_(shift)
        elif sequel.norm is not None:
            running = running_mean(self.module, sequel.norm)
            running.copy_(running.double() - shift)
        if sequel.norm is not None:
            self.settled.add(sequel.norm)

    def _aim(self, node: fx.Node, name: str, sequel: Sequel) -> _Aim:
        y = self.wanted.outputs.pop(name).float()
        scale, shift, rest = torch.ones_like(y[0]), torch.zeros_like(y[0]), None
        if sequel.norm is not None:
            scale, shift = (part.to(y) for part in scale_and_shift(self.module, sequel.norm))
        target = y * scale + shift
        if name in self.wanted.sums and (sequel.add is None or sequel.other in self.values):
            target = self.wanted.sums.pop(name).float()
            if sequel.other is not None:
                rows = self.wanted.rows[name]
                pairs = zip(self.values[sequel.other][: len(rows)], rows, strict=True)
                rest = torch.cat([chosen(v, node.target is CONV, rows) for v, rows in pairs]).float()
        return _Aim(y, target, scale, shift, rest)


@dataclass(frozen=True)
class _Aim:
    """What a layer with outputs $z$ should reach: `target` for scale * z + shift + rest, `[rows,
    neurons]`."""

    own: Tensor  # the dense layer's output, where the target says nothing of it
    target: Tensor
    scale: Tensor
    shift: Tensor
    rest: Tensor | None

    def at(self, rows: Tensor) -> _Aim:
        """Return what should be reached at some of the rows."""
        own, target, rest = (None if t is None else t[rows] for t in (self.own, self.target, self.rest))
        return replace(self, own=own, target=target, rest=rest)

    def after_norm(self, z: Tensor) -> Tensor:
        """What becomes of outputs `z`."""
        made = z * self.scale + self.shift
        return made if self.rest is None else made + self.rest

    def before_norm(self, target: Tensor) -> Tensor:
        faint = self.scale.abs() <= _FAINT * self.scale.abs().median()
        given = target - self.shift if self.rest is None else target - self.shift - self.rest
        return torch.where(
            faint, self.own, given / torch.where(faint, torch.ones_like(self.scale), self.scale)
        )

    def error(self, z: Tensor, relu: bool) -> float:
        """Squared error of outputs `z`, relative to the target's size."""
        made, target = self.after_norm(z), self.target
        if relu:
            made, target = made.relu(), target.relu()
        return float(
            (made - target).double().square().sum() / target.double().square().sum().clamp_min(1e-30)
        )


def _bounded(weights: Tensor, start: Tensor, norms: Tensor) -> Tensor:
    """Weights of which no neuron exceeds `GROWTH` times its norm in the dense network: less of the change is
    made."""
    most = torch.maximum(GROWTH * norms.double(), start.norm(dim=1))
    sound = torch.isfinite(weights).all(1, keepdim=True)
    change = torch.where(sound, weights - start, torch.zeros_like(start))
    room = (most - start.norm(dim=1)).clamp_min(0.0)
    too_long = (start + change).norm(dim=1) > most
    share = torch.where(too_long, room / change.norm(dim=1).clamp_min(1e-30), torch.ones_like(most))
    return start + change * share[:, None]
