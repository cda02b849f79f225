"""Normalisations: per-channel parameters follow the channel; statistics over channels need the masks."""

from __future__ import annotations

import numpy as np

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import Context, Value


@rule("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def batch_norm(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["input"])
    if a.get("training") and a.get("running_mean") is None:
        for dim in range(x.rank):
            if dim != 1:
                ctx.statistics(x, dim)
    _per_channel(ctx, a, x, out)


@rule("instance_norm")
def instance_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """Statistics over the spatial dimensions of each channel of each sample."""
    x = ctx.value(a["input"])
    _whole(ctx, x, 2)
    _per_channel(ctx, a, x, out)


def _whole(ctx: Context, x: Value, first: int) -> None:
    for dim in range(first, x.rank):
        ctx.freeze(ctx.read(x, dim), f"{ctx.op} over a labelled spatial dimension")


def _per_channel(ctx: Context, a: Arguments, x: Value, out: Value) -> None:
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if a.get(name) is not None:
            ctx.bind(ctx.value(a[name]), 0, out.labels[1])


@rule("layer_norm", "native_layer_norm", "rms_norm")
def layer_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """Mean and variance over the trailing dimensions, then a parameter an index."""
    x = ctx.value(a["input"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    first = x.rank - len(a["normalized_shape"])
    for dim in range(first, x.rank):
        ctx.statistics(x, dim)
        for name in ("weight", "bias"):
            if a.get(name) is not None:
                ctx.bind(ctx.value(a[name]), dim - first, out.labels[dim])


@rule("group_norm")
def group_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """As a grouped convolution: the same offsets stay in every group; statistics over them."""
    x, groups = ctx.value(a["input"]), int(a["num_groups"])
    _whole(ctx, x, 2)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[1]
    if rows is not None and not groups == len(rows) > 1:  # with one channel a group, a group goes with it
        ctx.equate(rows, np.tile(rows[: len(rows) // groups], (groups, 1)))
        ctx.statistics(x, 1)
    for name in ("weight", "bias"):
        if a.get(name) is not None:
            ctx.bind(ctx.value(a[name]), 0, out.labels[1])


@rule("softmax", "log_softmax")
def softmax(ctx: Context, a: Arguments, out: Value) -> None:
    """The sum below runs over what is kept, as the statistics of a norm do."""
    x = ctx.value(a["self"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    ctx.statistics(x, int(a["dim"]) % max(1, x.rank))
