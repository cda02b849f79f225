"""Convolutions: the weight's input dimension is the input's channels, its output dimension is new.

A grouped convolution keeps the same offsets in every group, so that its groups stay equal; in a
depthwise convolution (one input channel a group) a group goes with its channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtp_edge.ops.labels import Rows
from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.site import Site, remaining_groups
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, Work, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def label(ctx: Context, a: Arguments, out: Value) -> None:
    transposed = bool(a.get("transposed", "transpose" in ctx.op))
    x, weight = ctx.value(a["input"]), ctx.value(a["weight"])
    channel = x.rank - (weight.rank - 1)  # 1, or 0 without a batch
    if channel == 1:
        ctx.freeze(x.labels[0], "the convolution takes it as the batch dimension")
    for dim in range(channel + 1, x.rank):
        ctx.freeze(x.labels[dim], "the convolution takes it as a spatial dimension")
    if channel not in (0, 1):
        raise NotCovered("an input with this many dimensions")
    for dim in range(2, weight.rank):
        ctx.freeze(
            ctx.read(weight, dim) if weight.source is None else None,
            "a window runs over it",
            Code.KERNEL,
        )
        weight.labels[dim] = None
    groups, c_in = ctx.number(a["groups"]), x.shape[channel]
    rows = ctx.read(x, channel)
    if groups == 1:
        reads, writes = (0, 1) if transposed else (1, 0)
        ctx.bind_weight(a["weight"], reads, rows)
        _contract(ctx, x, weight, channel, reads)
        labels = ctx.read(weight, writes)
    elif groups == c_in:
        labels = _depthwise(ctx, weight, rows, groups, transposed)
    else:
        labels = _grouped(ctx, x, weight, channel, groups, transposed)
    out.labels[channel] = labels
    if a["bias"] is not None:
        ctx.bind(ctx.value(a["bias"]), 0, labels)


def _contract(ctx: Context, x: Value, weight: Value, channel: int, reads: int) -> None:
    """Mask the weight where it is a parameter, else the activation that it reads."""
    if weight.source is not None:
        ctx.contract(weight, reads, 1)
    else:
        ctx.contract(x, channel, 0)


def _depthwise(ctx: Context, weight: Value, rows: Rows | None, groups: int, transposed: bool) -> Rows | None:
    """One input channel a group: its `multiplier` outputs go with it; nothing is summed."""
    if transposed:  # weight [groups, multiplier]
        multiplier = weight.shape[1]
        ctx.bind(weight, 0, rows)
        ctx.bind(weight, 1, None)
        return None if rows is None else np.repeat(rows, multiplier, axis=0)
    multiplier = weight.shape[0] // groups
    labels = None if rows is None else np.repeat(rows, multiplier, axis=0)
    ctx.bind(weight, 0, labels)
    ctx.bind(weight, 1, None)
    return labels


def _grouped(
    ctx: Context, x: Value, weight: Value, channel: int, groups: int, transposed: bool
) -> Rows | None:
    """Tie channel j of every group, on both sides."""
    rows = x.labels[channel]
    if rows is not None:
        each = rows[: len(rows) // groups]
        ctx.equate(rows, np.tile(each, (groups, 1)))
    else:
        each = None
    if transposed:  # weight [c_in, c_out / groups]
        ctx.bind(weight, 0, rows)
        _contract(ctx, x, weight, channel, 0)
        labels = ctx.read(weight, 1)
        return None if labels is None else np.tile(labels, (groups, 1))
    ctx.bind(weight, 1, each)
    _contract(ctx, x, weight, channel, 1)
    size = weight.shape[0] // groups
    labels = weight.labels[0]
    if isinstance(labels, np.ndarray):
        ctx.equate(labels, np.tile(labels[:size], (groups, 1)))
    elif labels is not None:
        labels = np.tile(ctx.fresh(size, "channels", weight.source, repeat=groups), (groups, 1))
        weight.labels[0] = labels
    return labels


def groups_left(site: Site) -> None:
    groups = site.arg("groups", 1)
    if groups == 1:
        return
    channel = len(dense_shape(site.input())) - len(dense_shape(site.input(1))) + 1
    left = remaining_groups(site, site.input(), channel, groups)
    if remaining_groups(site, site.old, channel, groups) != left:
        raise site.wrong("keeps different groups of its inputs and outputs")
    site.set_arg("groups", left)


def family(attributes: Mapping[str, object], shapes: list[tuple[int, ...]]) -> str:
    """Return the kernel family; `shapes` are those of the input and the weight."""
    if attributes.get("transposed"):
        return "conv_transpose"
    weight = shapes[1]
    groups: Any = attributes.get("groups", 1)
    one_channel = weight[0] == weight[1] == 1  # a depthwise that lost all but one
    if int(groups) > 1 or one_channel:
        return "depthwise" if weight[1] == 1 else "grouped"
    if all(k == 1 for k in weight[2:]):
        return "conv1x1"
    plain = all(_ones(attributes.get(key, 1)) for key in ("stride", "dilation"))
    return "conv3x3" if list(weight[2:]) == [3, 3] and plain else "conv"


def _transposed_family(attributes: Mapping[str, object], shapes: list[tuple[int, ...]]) -> str:
    return "conv_transpose"


def _ones(value: Any) -> bool:
    return all(v == 1 for v in value) if isinstance(value, (list, tuple)) else value == 1


def macs(work: Work) -> list[list[tuple[Any, str]]]:
    """prod(weight) * output pixels; a transposed one works once an input pixel."""
    weight = work.inputs[1]
    transposed = work.family == "conv_transpose"
    sides = ("in", "out") if transposed else ("out", "in")
    if work.family == "depthwise":
        sides = ("out", "")
    rank = len(weight) - 2
    over = work.inputs[0] if transposed else work.output
    pixels = [*over[: max(len(over) - rank - 1, 0)], *over[-rank:]]
    return [[(weight[0], sides[0]), (weight[1], sides[1]), *((d, "") for d in (*weight[2:], *pixels))]]


def _examples(n: int, transposed: bool) -> tuple[Any, ...]:
    """Plain, grouped, depthwise and depthwise with a multiplier."""
    x = (2, 6, *[4] * n)
    found = []
    for groups, out in ((1, 8), (2, 8), (6, 6), (6, 12)):
        weight = (6, out // groups, *[3] * n) if transposed else (out, 6 // groups, *[3] * n)
        tail: list[Any] = [[1] * n, [1] * n]
        tail += [[0] * n, groups] if transposed else [[1] * n, groups]
        found.append(example(T(x), T(weight, "parameter"), T((out,), "parameter"), *tail))
    return tuple(found)


for _n in (1, 2, 3):
    for _name, _transposed in ((f"conv{_n}d", False), (f"conv_transpose{_n}d", True)):
        register(
            Spec(
                names=(_name,),
                label=label,
                size=groups_left,
                kernel="conv",
                kernel_of=_transposed_family if _transposed else family,
                macs=macs,
                fuses="convolution",
                examples=_examples(_n, _transposed),
            )
        )
register(
    Spec(
        names=("convolution",),
        label=label,
        size=groups_left,
        kernel="conv",
        kernel_of=family,
        macs=macs,
        fuses="convolution",
        examples=(
            example(
                T((2, 6, 4, 4)), T((8, 3, 3, 3), "parameter"), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2
            ),
            example(
                T((2, 6, 4, 4)), T((6, 4, 3, 3), "parameter"), None, [1, 1], [1, 1], [1, 1], True, [0, 0], 1
            ),
        ),
    )
)
