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
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.surgery.compaction import Compact

ROWS_PER_INPUT = 24  # patches read per unknown of a neuron, at least
LEAST_ROWS = 8192
HELD_OUT = 4  # every fourth row judges the fit
_CHUNK = 64  # images whose patches are held at once
_CONV, _LINEAR = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default
_NORM = torch.ops.aten.batch_norm.default


@dataclass(frozen=True)
class Refit:
    """One layer: its relative squared error to the dense output on rows that were not fitted, with the
    weights as cut and as fitted, or why it was left."""

    name: str
    before: float | None
    after: float | None
    reason: str | None = None


@torch.no_grad()
def refit(
    network: PrunableNetwork,
    compacted: Compact,
    dense: Mapping[str, Tensor],
    inputs: tuple[Any, ...],
    *,
    ridge: float = 0.1,
    seed: int = 0,
) -> list[Refit]:
    """Fit the compact network's layers in place to the dense network's outputs on `inputs`.

    `dense` has the tensors of the dense network that is imitated, by name (a state dict); what it lacks is
    taken from `network`. `inputs` is one batch, as large as memory allows (512 small images do).
    `ridge` pulls towards the weights as cut: 0.1 keeps what training under the masks has taught them, 0.01
    suits weights that were cut without it. Layers that are no plain convolution or linear layer keep their
    weights, with the reason in the result.
    """
    layers = _layers(compacted.graph_module.graph)
    wanted = _Reference(network.graph_module, dense, layers, compacted.kept, seed)
    target = wanted.run(*inputs)
    module = compacted.graph_module
    tensors = {name: t for name, t in module.state_dict().items() if t.is_floating_point()}
    before = {name: t.clone() for name, t in tensors.items()}
    unfitted = _Fitting(module, wanted, dict.fromkeys(layers, "not yet"), ridge).run(*inputs)
    fitting = _Fitting(module, wanted, layers, ridge)
    fitted = fitting.run(*inputs)
    if _distance(fitted, target) < _distance(unfitted, target):
        return fitting.rows
    for name, tensor in tensors.items():
        tensor.copy_(before[name])
    reason = "the network's output did not come nearer to the dense one's"
    return [Refit(r.name, r.before, r.after, r.reason or reason) for r in fitting.rows]


def _distance(out: Any, target: Any) -> float:
    """Summed squared difference of two networks' outputs, relative to the second's."""
    pairs = zip(tree_leaves(out), tree_leaves(target), strict=True)
    terms = [
        ((a - b).double().square().sum() / b.double().square().sum().clamp_min(1e-30)).item()
        for a, b in pairs
        if isinstance(b, Tensor) and b.is_floating_point() and a.shape == b.shape
    ]
    return sum(terms) if all(map(math.isfinite, terms)) else math.inf


def _layers(graph: fx.Graph) -> dict[str, str | None]:
    """Weight name -> None, or why the layer cannot be fitted."""
    found: dict[str, str | None] = {}
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "get_attr":
            uses[str(node.target)] += len(node.users)
    for node in graph.nodes:
        name = _weight(node)
        if name is None:
            continue
        found[name] = None
        if uses[name] > 1:
            found[name] = "its weight is used more than once"
        elif node.target is _CONV and _conv_arguments(node.args)[3] != 1:
            found[name] = "a grouped convolution"
    return found


def _weight(node: fx.Node) -> str | None:
    """Name of the weight that a convolution or linear node reads straight from the module."""
    if node.op != "call_function" or node.target not in (_CONV, _LINEAR):
        return None
    weight = node.args[1]
    return str(weight.target) if isinstance(weight, fx.Node) and weight.op == "get_attr" else None


def _conv_arguments(args: tuple[Any, ...]) -> tuple[Any, Any, Any, int]:
    """Stride, padding, dilation and groups of `conv2d`'s arguments, defaults filled in."""
    defaults: tuple[Any, ...] = ([1, 1], [0, 0], [1, 1], 1)
    stride, padding, dilation, groups = (*args[3:], *defaults[len(args[3:]) :])
    return stride, padding, dilation, groups


class _Reference(fx.Interpreter):
    """Runs the dense graph and keeps every layer's output at a random sample of its positions."""

    def __init__(
        self,
        module: fx.GraphModule,
        tensors: Mapping[str, Tensor],
        layers: Mapping[str, str | None],
        kept: Mapping[str, Mapping[int, list[int]]],
        seed: int,
    ) -> None:
        super().__init__(module)
        self.tensors, self.layers, self.kept = tensors, layers, kept
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs: dict[str, Tensor] = {}  # [rows, neurons kept]
        self.rows: dict[str, Tensor] = {}  # which positions: [images, positions an image]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        own = super().get_attr(target, args, kwargs)
        other = self.tensors.get(str(target))
        return own if other is None else other.to(own.device)

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        name = _weight(n)
        if name is not None and self.layers.get(name, "absent") is None:
            weight = self.fetch_args_kwargs_from_env(n)[0][1]
            flat = _positions(out, n.target is _CONV)
            index = self._sample(flat.shape[0], flat.shape[1], weight[0].numel())
            self.rows[name] = index.to(out.device)
            sampled = flat.gather(1, self.rows[name][..., None].expand(-1, -1, flat.shape[2]))
            neurons = self.kept.get(name, {}).get(0)
            sampled = sampled.reshape(-1, flat.shape[2])
            self.outputs[name] = sampled if neurons is None else sampled[:, neurons]
        return out

    def _sample(self, images: int, positions: int, unknowns: int) -> Tensor:
        rows = max(LEAST_ROWS, ROWS_PER_INPUT * unknowns)
        each = min(positions, -(-rows // images))
        noise = torch.rand(images, positions, generator=self.generator)
        return noise.argsort(1)[:, :each]


class _Fitting(fx.Interpreter):
    """Runs the compact graph; every layer is fitted just before it runs."""

    def __init__(
        self,
        module: fx.GraphModule,
        wanted: _Reference,
        layers: Mapping[str, str | None],
        ridge: float,
    ) -> None:
        super().__init__(module)
        self.wanted, self.layers, self.ridge = wanted, layers, ridge
        self.rows: list[Refit] = []

    def run_node(self, n: fx.Node) -> Any:
        name = _weight(n)
        if name is not None:
            if self.layers[name] is None:
                self._fit(n, name)
            else:
                self.rows.append(Refit(name, None, None, self.layers[name]))
        elif n.target is _NORM:
            self._estimate(n)
        return super().run_node(n)

    def _fit(self, node: fx.Node, name: str) -> None:
        args = self.fetch_args_kwargs_from_env(node)[0]
        x, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
        y = self.wanted.outputs.pop(name).double()
        rows = self.wanted.rows.pop(name)
        patches = _patches(x, weight, args, rows) if node.target is _CONV else _inputs(x, rows)
        centred = bias is not None or all(u.target is _NORM for u in node.users)
        judge = torch.arange(len(y), device=y.device) % HELD_OUT == 0
        x_mean = patches[~judge].mean(0) if centred else torch.zeros_like(patches[0])
        y_mean = y[~judge].mean(0) if centred else torch.zeros_like(y[0])
        patches, y = patches - x_mean, y - y_mean
        start = weight.double().flatten(1)
        fitted = _ridge(patches[~judge], y[~judge], start, self.ridge)
        x_judge, y_judge = patches[judge], y[judge]
        size = y_judge.square().sum().clamp_min(1e-30)
        before, after = (float((y_judge - x_judge @ w.T).square().sum() / size) for w in (start, fitted))
        if not after < before:
            self.rows.append(
                Refit(name, before, after, "the error on rows that were not fitted did not fall")
            )
            return
        if all(u.target is _NORM for u in node.users):
            norms = start.norm(dim=1, keepdim=True), fitted.norm(dim=1, keepdim=True)
            # a neuron without any weight left to rescale stays as it was cut
            fitted = torch.where(norms[1] > 1e-3 * norms[0], fitted * (norms[0] / norms[1]), start)
        weight.copy_(fitted.view_as(weight))
        if bias is not None:
            bias.copy_(y_mean - fitted @ x_mean)
        self.rows.append(Refit(name, before, after))

    def _estimate(self, node: fx.Node) -> None:
        """Running statistics of a batch norm in evaluation, from what now arrives at it."""
        args = self.fetch_args_kwargs_from_env(node)[0]
        x, mean, variance, training = args[0], args[3], args[4], args[5]
        if mean is None or training:
            return
        dims = [d for d in range(x.dim()) if d != 1]
        mean.copy_(x.mean(dims))
        variance.copy_(x.var(dims))


def _positions(out: Tensor, conv: bool) -> Tensor:
    """A layer's output as `[images, positions, neurons]`."""
    if conv:
        return out.flatten(2).transpose(1, 2)
    return out.reshape(out.shape[0], -1, out.shape[-1])


def _inputs(x: Tensor, rows: Tensor) -> Tensor:
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return flat.gather(1, rows[..., None].expand(-1, -1, flat.shape[2])).flatten(0, 1).double()


def _patches(x: Tensor, weight: Tensor, args: tuple[Any, ...], rows: Tensor) -> Tensor:
    """The convolution's input patches at the sampled positions, `[rows, inputs of a neuron]`."""
    stride, padding, dilation, _ = _conv_arguments(args)
    parts = []
    for i in range(0, len(x), _CHUNK):
        unfolded = F.unfold(
            x[i : i + _CHUNK],
            tuple(weight.shape[2:]),
            dilation=tuple(dilation),
            padding=tuple(padding),
            stride=tuple(stride),
        )
        index = rows[i : i + _CHUNK, None].expand(-1, unfolded.shape[1], -1)
        parts.append(unfolded.gather(2, index).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).double()


def _ridge(x: Tensor, y: Tensor, start: Tensor, ridge: float) -> Tensor:
    """The weights `[neurons, inputs]` of the formula above."""
    gram, right = x.T @ x / len(x), x.T @ y / len(x)
    pull = ridge * gram.diagonal().mean().clamp_min(1e-12)
    gram.diagonal().add_(pull)
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(right + pull * start.T, factor).T
