"""What a convolution or linear layer reads and makes, as rows of a matrix; and what is made of it next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.ops.nodes import lookup

CONV, LINEAR = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default
NORM = torch.ops.aten.batch_norm.default
_ADD = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
_RELU = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


def weight_of(node: fx.Node) -> str | None:
    """Name of the weight that a convolution or linear node reads straight from the module."""
    if node.op != "call_function" or node.target not in (CONV, LINEAR):
        return None
    weight = node.args[1]
    return str(weight.target) if isinstance(weight, fx.Node) and weight.op == "get_attr" else None


def conv_arguments(args: tuple[Any, ...]) -> tuple[Any, Any, Any, int]:
    """Stride, padding, dilation and groups of `conv2d`'s arguments, defaults filled in."""
    defaults: tuple[Any, ...] = ([1, 1], [0, 0], [1, 1], 1)
    stride, padding, dilation, groups = (*args[3:], *defaults[len(args[3:]) :])
    return stride, padding, dilation, groups


def groups_of(node: fx.Node) -> int:
    """Into how many groups a layer's neurons and inputs fall; 1 of a linear layer."""
    return int(conv_arguments(node.args)[3]) if node.target is CONV else 1


def takes_up_means(node: fx.Node) -> bool:
    """Whether a bias or a batch norm makes a shift of a layer's output good."""
    biased = len(node.args) > 2 and node.args[2] is not None
    return biased or all(user.target is NORM for user in node.users)


def positions(out: Tensor, conv: bool) -> Tensor:
    """A layer's output as `[images, positions, neurons]`."""
    if conv:
        return out.flatten(2).transpose(1, 2)
    return out.reshape(out.shape[0], -1, out.shape[-1])


def chosen(out: Tensor, conv: bool, rows: Tensor, neurons: list[int] | None = None) -> Tensor:
    """A layer's output at the positions `rows` `[images, few]`, `[images * few, neurons]`."""
    flat = positions(out, conv)
    found = flat.gather(1, rows[..., None].expand(-1, -1, flat.shape[2])).reshape(-1, flat.shape[2])
    return found if neurons is None else found[:, neurons]


def inputs_at(node: fx.Node, args: tuple[Any, ...], rows: Tensor) -> Tensor:
    """What a neuron reads at the positions `rows` `[images, few]`: `[images * few, inputs]`.

    Of a grouped convolution the inputs of all groups lie side by side.
    """
    x, weight = args[0], args[1]
    if node.target is LINEAR:
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        return flat.gather(1, rows[..., None].expand(-1, -1, flat.shape[2])).flatten(0, 1)
    stride, padding, dilation, _ = conv_arguments(args)
    x = x if not any(padding) else F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    width = (x.shape[3] - dilation[1] * (weight.shape[3] - 1) - 1) // stride[1] + 1
    first = rows // width * (stride[0] * x.shape[3]) + rows % width * stride[1]
    down, along = (torch.arange(n, device=rows.device) for n in weight.shape[2:])
    steps = (down[:, None] * (dilation[0] * x.shape[3]) + along * dilation[1]).flatten()
    places = (first[..., None] + steps).flatten(1)  # `[images, few * positions of the kernel]`
    windows = x.flatten(2).gather(2, places[:, None].expand(-1, x.shape[1], -1))
    return windows.unflatten(2, (-1, len(steps))).transpose(1, 2).reshape(-1, x.shape[1] * len(steps))


@dataclass(frozen=True)
class Sequel:
    """What follows a layer: its batch norm, the addition of `other` to what it made, a ReLU; any may be
    absent."""

    norm: fx.Node | None = None
    add: fx.Node | None = None
    other: fx.Node | None = None
    relu: bool = False


def sequel_of(node: fx.Node, place: dict[fx.Node, int]) -> Sequel:
    """Return what follows; `place` numbers the graph's nodes, as `other` must be known when `node` runs."""
    other, add, at = None, None, node
    norm = _only_user(at, (NORM,))
    if norm is not None and (norm.args[5] is True or not isinstance(norm.args[3], fx.Node)):
        return Sequel()  # its statistics are those of the batch
    at = norm or at
    found = _only_user(at, _ADD)
    if found is not None and len(found.args) == 2 and not found.kwargs:
        a, b = found.args
        rest = b if a is at else a
        if isinstance(rest, fx.Node) and rest is not at and place[rest] < place[node]:
            add, other, at = found, rest, found
    return Sequel(norm, add, other, _only_user(at, _RELU) is not None)


def ends(node: fx.Node) -> list[fx.Node]:
    """The node, and the ReLU behind it where that is what others read."""
    relu = _only_user(node, _RELU)
    return [node] if relu is None else [node, relu]


def _only_user(node: fx.Node, targets: tuple[Any, ...]) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in targets else None


def scale_and_shift(module: fx.GraphModule, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """What a batch norm with running statistics does to every neuron: float64 `[neurons]` each."""
    gain, offset, mean, variance = (
        None if a is None else lookup(module, str(cast(fx.Node, a).target)).double() for a in norm.args[1:5]
    )
    if mean is None or variance is None:
        raise CheckError("a batch norm without running statistics", where=norm.name, hint=REPORT)
    scale = (variance + cast(float, norm.args[7])).rsqrt()
    scale = scale if gain is None else scale * gain
    return scale, (0.0 if offset is None else offset) - mean * scale


def running_mean(module: fx.GraphModule, norm: fx.Node) -> Tensor:
    """The buffer itself."""
    return lookup(module, str(cast(fx.Node, norm.args[3]).target))
