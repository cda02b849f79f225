"""Convolutions: the weight's input dimension is the input's channels, its output dimension is new.

A grouped convolution keeps the same offsets in every group, so that its groups stay equal; in a
depthwise convolution (one input channel a group) a group goes with its channel.
"""

from __future__ import annotations

import numpy as np

from dtp_edge.graph.labels import Rows
from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import Context, Value


@rule("conv1d", "conv2d", "conv3d")
def conv(ctx: Context, a: Arguments, out: Value) -> None:
    _convolution(ctx, a, out, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(ctx: Context, a: Arguments, out: Value) -> None:
    _convolution(ctx, a, out, transposed=True)


@rule("convolution")
def convolution(ctx: Context, a: Arguments, out: Value) -> None:
    _convolution(ctx, a, out, transposed=bool(a["transposed"]))


def _convolution(ctx: Context, a: Arguments, out: Value, transposed: bool) -> None:
    x, weight = ctx.value(a["input"]), ctx.value(a["weight"])
    channel = x.rank - (weight.rank - 1)  # 1, or 0 without a batch
    if channel == 1:
        ctx.freeze(x.labels[0], "convolution over a labelled batch dimension")
    for dim in range(channel + 1, x.rank):
        ctx.freeze(x.labels[dim], "convolution over a labelled spatial dimension")
    for dim in range(2, weight.rank):
        ctx.freeze(ctx.read(weight, dim) if weight.source is None else None, "labelled kernel")
        weight.labels[dim] = None
    groups, c_in, c_out = int(a["groups"]), x.shape[channel], out.shape[channel]
    rows = ctx.read(x, channel)
    if groups == 1:
        reads, writes = (0, 1) if transposed else (1, 0)
        ctx.bind(weight, reads, rows)
        _contract(ctx, x, weight, channel, reads)
        labels = ctx.read(weight, writes)
    elif groups == c_in:
        labels = _depthwise(ctx, weight, rows, groups, transposed)
    else:
        labels = _grouped(ctx, x, weight, channel, groups, transposed)
    out.labels[channel] = labels
    assert c_out == (len(labels) if labels is not None else c_out)
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
