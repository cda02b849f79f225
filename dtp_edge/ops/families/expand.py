"""One tensor several times over: stretched, repeated, interleaved."""

from __future__ import annotations

import numpy as np
from torch import fx

from dtp_edge.ops.broadcast import broadcast
from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.site import Site, sizes_of_output
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import UNSET, Arguments, Context, Value


def expand(ctx: Context, a: Arguments, out: Value) -> None:
    """Stretched dimensions hold the same everywhere, so they take any label; the others pass through."""
    x = ctx.value(a["self"])
    shift = out.rank - x.rank
    for dim in range(out.rank):
        out.labels[dim] = None if out.shape[dim] == 1 or out.fixed[dim] else UNSET
    for dim in range(x.rank):
        if x.shape[dim] == out.shape[dim + shift]:
            out.labels[dim + shift] = ctx.read(x, dim) if x.shape[dim] != 1 else None
        else:
            ctx.freeze(
                x.labels[dim] if x.source is None else None,
                "one value that is stretched over the dimension",
                Code.STRETCHED,
            )


def expand_as(ctx: Context, a: Arguments, out: Value) -> None:
    """The other tensor gives the sizes, so its labels are those of the result."""
    out.labels[:] = broadcast(ctx, [ctx.value(a["self"]), ctx.value(a["other"])], out)


def repeat(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    shift = out.rank - x.rank
    for dim in range(x.rank):
        times = out.shape[dim + shift] // x.shape[dim]
        rows = ctx.read(x, dim)
        if x.shape[dim] == 1:
            ctx.freeze(rows, "one value that is repeated over the dimension", Code.STRETCHED)
        elif rows is not None:
            out.labels[dim + shift] = rows if times == 1 else np.tile(rows, (times, 1))


def repeat_interleave(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    if not isinstance(a["repeats"], int) or a["dim"] is None:
        raise NotCovered("repeats that differ from index to index, or that run over the flattened tensor")
    dim = ctx.dim(a["dim"], x.rank)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if out.labels[dim] is not None:
        out.labels[dim] = np.repeat(out.labels[dim], a["repeats"], axis=0)


def repeats(site: Site) -> None:
    name = "dims" if site.arg("repeats") is None else "repeats"
    times = list(site.arg(name))
    out, inp = site.kept.shape(site.old), site.kept.shape(site.input())
    if out == dense_shape(site.old) and inp == dense_shape(site.input()):
        return
    current = list(site.new_arg(name))
    missing = len(out) - len(times)  # tile may list the last dimensions only
    times, current = [1] * missing + times, [1] * missing + current
    offset = len(out) - len(inp)
    for i, size in enumerate(out):
        source = inp[i - offset] if i >= offset else 1
        if not isinstance(times[i], int):
            continue
        if size % source:
            raise site.wrong("repeats a dimension whose copies lost different channels")
        times[i] = size // source
    site.set_arg(name, [c if isinstance(c, fx.Node) else r for r, c in zip(times, current, strict=True)])


def interleaved(site: Site) -> None:
    if site.arg("output_size") is not None:
        site.set_arg("output_size", site.kept.shape(site.old)[site.dim()])


register(
    Spec(
        names=("expand",),
        aliases={"broadcast_to": "expand"},
        label=expand,
        size=sizes_of_output("size"),
        kernel="view",
        memory="view",
        examples=(example(T((2, 1, 4)), [2, 6, 4]), example(T((2, 6, 1)), [2, 6, 4])),
    )
)
register(
    Spec(
        names=("expand_as",),
        label=expand_as,
        kernel="view",
        memory="view",
        examples=(example(T((2, 6, 1)), T((2, 6, 4))),),
    )
)
register(
    Spec(
        names=("repeat", "tile"),
        label=repeat,
        size=repeats,
        kernel="layout",
        examples=(example(T((2, 6, 4)), [1, 1, 3]), example(T((2, 6, 1)), [1, 1, 3])),
    )
)
register(
    Spec(
        names=("repeat_interleave",),
        label=repeat_interleave,
        size=interleaved,
        kernel="layout",
        examples=(example(T((2, 6, 4)), 2, 1), example(T((2, 6, 4)), 2, 2)),
    )
)
