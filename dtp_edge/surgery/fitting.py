"""Layers fitted one after the other to given outputs, each just before it runs: the steps of
`least_squares`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from dtp_edge.surgery.norm_statistics import moments_of_channels
from dtp_edge.surgery.reference import Reference
from dtp_edge.surgery.sequels import NORM, inputs_at, takes_up_means, weight_of
from dtp_edge.surgery.walk import Walk

HELD_OUT = 4  # every fourth row judges the fit
TOO_FEW = "too few rows to fit on"
NOT_BETTER = "the error on rows that were not fitted did not fall"


@dataclass(frozen=True)
class Refit:
    """One layer: its relative squared error to the dense output on rows that were not fitted, with the
    weights as cut and as fitted, or why it was left."""

    name: str
    before: float | None
    after: float | None
    reason: str | None = None


class Ridge:
    r"""The formula's normal equations for one layer, factored once: one system for each of its `groups`.

    `x` `[rows, inputs]` of all groups side by side, centred where means are taken up; `start` `[neurons,
    inputs of a group]`. Where rows are fewer than inputs the system is that of the rows, which is the smaller
    one: $W - W_0 = (Y - X W_0^T)^T (X X^T + n \rho \tau I)^{-1} X$.
    """

    def __init__(self, x: Tensor, start: Tensor, ridge: float, groups: int = 1) -> None:
        self.x = _by_group(x, groups)
        self.start = start.unflatten(0, (groups, -1))
        self.rows, inputs = self.x.shape[1:]
        self.by_rows = self.rows < inputs
        gram = ((self.x @ self.x.mT if self.by_rows else self.x.mT @ self.x) / self.rows).double()
        diagonal = gram.diagonal(dim1=1, dim2=2)
        self.pull = ridge * (diagonal.sum(1) / inputs).clamp_min(1e-12)[:, None, None]
        diagonal.add_(self.pull[..., 0])
        self.factor, self.failed = torch.linalg.cholesky_ex(gram)

    def weights(self, y: Tensor) -> Tensor:
        """Return the weights, as `start`, for outputs `y` `[rows, neurons]`; `start` where none can be
        had."""
        wanted = _by_group(y, len(self.x)).to(self.x)
        if self.by_rows:
            rest = (wanted - self.x @ self.start.mT.to(self.x)).double() / self.rows
            found = self.start + (self.x.mT.double() @ torch.cholesky_solve(rest, self.factor)).mT
        else:
            right = (self.x.mT @ wanted / self.rows).double()
            found = torch.cholesky_solve(right + self.pull * self.start.mT, self.factor).mT
        return torch.where((self.failed != 0)[:, None, None], self.start, found).flatten(0, 1)


def applied(x: Tensor, weights: Tensor, groups: int) -> Tensor:
    """Return what a layer with `weights` makes of rows `x`, `[rows, neurons]`."""
    made = _by_group(x, groups) @ weights.to(x).unflatten(0, (groups, -1)).mT
    return made.transpose(0, 1).flatten(1)


def _by_group(x: Tensor, groups: int) -> Tensor:
    """`[rows, all]` as `[groups, rows, those of one]`."""
    return x.unflatten(1, (groups, -1)).transpose(0, 1)


def judges(rows: int, device: torch.device) -> Tensor:
    """Which of so many rows judge a fit, bool `[rows]`."""
    return torch.arange(rows, device=device) % HELD_OUT == 0


def _joined(parts: list[Tensor]) -> Tensor:
    """The parts one below the other; they are taken away one by one."""
    if len(parts) == 1:
        return parts[0]
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for place in whole.split([len(part) for part in parts]):
        place.copy_(parts.pop(0))
    return whole


class Fitting(Walk):
    """Runs the compact graph; every layer is fitted just before it runs.

    Batches behind those that the reference was run on are carried along, and fitted to nothing.
    """

    def __init__(
        self, module: fx.GraphModule, wanted: Reference, layers: Mapping[str, str | None], ridge: float
    ) -> None:
        super().__init__(module)
        self.wanted, self.layers, self.ridge = wanted, layers, ridge
        self.rows: list[Refit] = []
        self.settled: set[fx.Node] = set()  # norms whose statistics are right

    def before(self, node: fx.Node) -> None:
        name = weight_of(node)
        if name is not None:
            if self.layers[name] is None:
                self.fit(node, name)
            else:
                self.rows.append(Refit(name, None, None, self.layers[name]))
        elif node.target is NORM and node not in self.settled:
            self._estimate(node)

    def inputs(self, node: fx.Node, name: str, judge: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What the layer reads at the positions whose outputs are known, `[rows, inputs]`: those that are
        fitted, and those that `judge`. Nothing in a fit is larger, so the two are never there twice."""
        places = self.wanted.rows[name]
        parts = judge.split([rows.numel() for rows in places])
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for i, (rows, mine) in enumerate(zip(places, parts, strict=True)):
            x = inputs_at(node, self.arguments(node, i), rows).to(dtype)
            found[0].append(x[~mine])
            found[1].append(x[mine])
        return _joined(found[0]), _joined(found[1])

    def fit(self, node: fx.Node, name: str) -> None:
        args = self.arguments(node, 0)
        weight, bias = args[1], args[2] if len(args) > 2 else None
        y = self.wanted.outputs.pop(name).double()
        judge = judges(len(y), y.device)
        x, x_judge = self.inputs(node, name, judge, torch.float64)
        y, y_judge = y[~judge], y[judge]
        centred = takes_up_means(node)
        x_mean, y_mean = (t.mean(0) if centred else torch.zeros_like(t[0]) for t in (x, y))
        for part, mean in ((x, x_mean), (x_judge, x_mean), (y, y_mean), (y_judge, y_mean)):
            part.sub_(mean)
        start = weight.double().flatten(1)
        fitted = Ridge(x, start, self.ridge).weights(y)
        size = y_judge.square().sum().clamp_min(1e-30)
        before, after = (float((y_judge - x_judge @ w.T).square().sum() / size) for w in (start, fitted))
        if not after < before:
            self.rows.append(Refit(name, before, after, NOT_BETTER))
            return
        if all(u.target is NORM for u in node.users):
            norms = start.norm(dim=1, keepdim=True), fitted.norm(dim=1, keepdim=True)
            # a neuron without any weight left to rescale stays as it was cut
            fitted = torch.where(norms[1] > 1e-3 * norms[0], fitted * (norms[0] / norms[1]), start)
        weight.copy_(fitted.view_as(weight))
        if bias is not None:
            bias.copy_(y_mean - fitted @ x_mean)
        self.rows.append(Refit(name, before, after))

    def _estimate(self, node: fx.Node) -> None:
        """Running statistics of a batch norm in evaluation, from what now arrives at it."""
        mean, variance, training = self.arguments(node, 0)[3:6]
        if mean is None or training:
            return
        many = len(next(iter(self.wanted.rows.values()), self.values[node.all_input_nodes[0]]))
        moments = moments_of_channels([self.arguments(node, i)[0] for i in range(many)])
        if moments is not None:
            mean.copy_(moments[0])
            variance.copy_(moments[1])
