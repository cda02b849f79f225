"""A graph that rounds weights and activations as its int8 file will, and lets gradients through.

Weights are symmetric int8, per output channel or per tensor; activations are uint8 per tensor, in ranges that
were seen on calibration batches. With `same_bits` steps are powers of two, as in `passes.shared_scales`. What
the file rounds is rounded here: what the operators of `ROUNDED` read and put out, but not between one of them
and an activation that runtimes fuse into it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from dtp_edge.ops.nodes import arguments_of, lookup, op_name

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
WEIGHTED = (*CONVOLUTIONS, "linear")
_COMPUTE = ("addmm", "matmul", "mm", "bmm", "add", "add_", "mul", "mul_", "cat", "mean")
_ACTIVATIONS = ("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "sigmoid")
ROUNDED = frozenset((*WEIGHTED, *_COMPUTE, *_ACTIVATIONS, "avg_pool2d", "adaptive_avg_pool2d"))
FUSED = frozenset(("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp", "clamp_"))
_HALVINGS = 3  # steps that are tried for a channel of weights, each half of the one before


class RoundedValue(nn.Module):
    """Rounds an activation to 256 steps over the range that it was seen in."""

    low: Tensor
    high: Tensor

    def __init__(self, same_bits: bool) -> None:
        super().__init__()
        self.same_bits, self.on, self.watching = same_bits, True, False
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.watching:
            self.low.copy_(torch.minimum(self.low, x.detach().amin().clamp(max=0)))
            self.high.copy_(torch.maximum(self.high, x.detach().amax().clamp(min=0)))
            return x
        span = self.high - self.low
        if not self.on or not bool(span > 0):
            return x
        step = _step(span / 255, self.same_bits)
        zero = (-self.low / step).round().clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, 255)


class RoundedWeight(nn.Module):
    """Rounds a weight to int8, in the steps that suit it as it is now."""

    def __init__(self, per_channel: bool, same_bits: bool) -> None:
        super().__init__()
        self.per_channel, self.same_bits, self.on = per_channel, same_bits, True

    def forward(self, weight: Tensor) -> Tensor:
        return _rounded_weight(weight, self.per_channel, self.same_bits) if self.on else weight


def _rounded_weight(weight: Tensor, per_channel: bool, same_bits: bool) -> Tensor:
    flat = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)
    top = _step((flat.abs().amax(dim=1) / 127).clamp(min=1e-12), same_bits)
    best, error = top, torch.full_like(top, torch.inf)
    for halving in range(_HALVINGS if same_bits else 1):
        steps = top * 0.5**halving
        rounded = (flat / steps[:, None]).round().clamp(-127, 127) * steps[:, None]
        errs = (rounded - flat).square().sum(dim=1)
        best, error = torch.where(errs < error, steps, best), torch.minimum(errs, error)
    zero = torch.zeros_like(best, dtype=torch.int32)
    if per_channel:
        return torch.fake_quantize_per_channel_affine(weight, best, zero, 0, -127, 127)
    return torch.fake_quantize_per_tensor_affine(weight, best[0], zero[0], -127, 127)


def _step(step: Tensor, same_bits: bool) -> Tensor:
    return torch.exp2(torch.ceil(torch.log2(step) - 1e-6)) if same_bits else step


def rounded(graph: fx.GraphModule, *, per_channel: bool = True, same_bits: bool = True) -> fx.GraphModule:
    """Return a copy of a graph (norms folded) that rounds; it trains, and `plain` takes the rounding out."""
    module = copy.deepcopy(graph)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and op_name(node) in WEIGHTED:
            weight = arguments_of(node)["weight"]
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                rounding = RoundedWeight(per_channel, same_bits)
                name = f"rounded_weight_{len(list(module.children()))}"
                _put_between(module, name, rounding, weight, {node})
        if _is_rounded(node):
            users = set(node.users)
            _put_between(
                module, f"rounded_value_{len(list(module.children()))}", RoundedValue(same_bits), node, users
            )
    module.graph.lint()
    module.recompile()
    return module


def _is_rounded(node: fx.Node) -> bool:
    """Whether the file rounds what a node puts out."""
    if node.op not in ("call_function", "placeholder") or not node.users:
        return False
    value = node.meta.get("val")
    if isinstance(value, Tensor) and not value.is_floating_point():
        return False
    readers = {op_name(user) if user.op == "call_function" else user.op for user in node.users}
    if readers <= FUSED:
        return False
    if node.op == "call_function" and op_name(node) in ROUNDED:
        return True
    return bool(readers & ROUNDED) and (node.op == "placeholder" or not _moves(node))


def _moves(node: fx.Node) -> bool:
    """Whether a node only moves values that are rounded already."""
    name = op_name(node)
    return name in (
        "max_pool2d",
        "flatten",
        "view",
        "reshape",
        "permute",
        "transpose",
        "dropout",
        "slice",
        "pad",
    )


def _put_between(
    module: fx.GraphModule, name: str, part: nn.Module, node: fx.Node, users: set[fx.Node]
) -> None:
    module.add_submodule(name, part)
    with module.graph.inserting_after(node):
        call = module.graph.call_module(name, (node,))
    for user in users:
        user.replace_input_with(node, call)


def plain(module: fx.GraphModule, graph: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of `graph` with the parameters that a rounded copy of it has now."""
    found = copy.deepcopy(graph)
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            parameter.copy_(lookup(module, name))
    return found


@contextmanager
def watching(module: nn.Module) -> Iterator[None]:
    """Let activations go by in the block, and widen their ranges to them."""
    parts = [m for m in module.modules() if isinstance(m, RoundedValue)]
    for part in parts:
        part.watching = True
    try:
        yield
    finally:
        for part in parts:
            part.watching = False


@torch.no_grad()
def see(module: fx.GraphModule, batches: Iterable[tuple[Any, ...]]) -> None:
    """Set the ranges of activations to what the batches make of them."""
    was = module.training
    module.eval()
    with watching(module):
        for batch in batches:
            module(*batch)
    module.train(was)


@torch.no_grad()
def sensitivity(module: fx.GraphModule, batches: list[tuple[Any, ...]]) -> dict[str, float]:
    """Return `{layer: relative error of the output}` where that layer alone is rounded, the worst first.

    A layer is one with weights; with it are rounded its weights, what it reads and what it puts out.
    """
    was = module.training
    module.eval()
    parts = [m for m in module.modules() if isinstance(m, RoundedValue | RoundedWeight)]
    for part in parts:
        part.on = False
    exact = [_first(module(*batch)) for batch in batches]
    errors = {}
    for layer, names in _layers(module).items():
        for name in names:
            lookup(module, name).on = True
        found = [_first(module(*batch)) for batch in batches]
        for name in names:
            lookup(module, name).on = False
        apart = sum(float((a - b).square().sum()) for a, b in zip(found, exact, strict=True))
        errors[layer] = (apart / max(1e-30, sum(float(b.square().sum()) for b in exact))) ** 0.5
    for part in parts:
        part.on = True
    module.train(was)
    return dict(sorted(errors.items(), key=lambda pair: -pair[1]))


def _layers(module: fx.GraphModule) -> dict[str, list[str]]:
    """Return the roundings of each layer with weights: its weight's, its input's, its output's."""
    found: dict[str, list[str]] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or op_name(node) not in WEIGHTED:
            continue
        names = [str(a.target) for a in node.all_input_nodes if a.op == "call_module"]
        weights = [a for a in node.all_input_nodes if a.op == "call_module" and "weight" in str(a.target)]
        if not weights:
            continue
        after = node
        while len(after.users) == 1 and op_name(next(iter(after.users))) in FUSED:
            (after,) = after.users
        names += [str(u.target) for u in after.users if u.op == "call_module"]
        layer = str(weights[0].args[0].target)  # type: ignore[union-attr]
        found[layer] = names
    return found


def _first(output: Any) -> Tensor:
    from dtp_edge.graph.leaves import leaves

    return leaves(output)[0]
