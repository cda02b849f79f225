"""Reductions over dimensions, the largest and smallest, running sums."""

from __future__ import annotations

import torch

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Made, Value

_REDUCTIONS = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip
_SUMS = ("ReduceSumSquare", "ReduceL1", "ReduceLogSum")


def _axes(c: Context) -> list[int] | None:
    """The dimensions to reduce; None where empty axes mean that nothing is done."""
    axes, nothing = c.integers(1, "axes"), c.flag("noop_with_empty_axes")
    if not axes:
        return None if nothing else list(range(c.rank()))
    return sorted(a % c.rank() for a in axes)


@op(*_REDUCTIONS, *_SUMS, "ReduceL2", "ReduceProd")
def reduce(c: Context) -> Value:
    x, axes, keep, name = c.value(0), _axes(c), c.flag("keepdims", 1), c.type
    if name == "ReduceSumSquare":
        x = c.call(torch.square, x)
    elif name == "ReduceL1":
        x = c.call(torch.abs, x)
    if axes is None:
        return (
            c.call(torch.log, x)
            if name == "ReduceLogSum"
            else c.call(torch.abs, x)
            if name == "ReduceL2"
            else x
        )
    if not x.shape:
        return c.call(torch.reshape, x, [])
    if name == "ReduceProd":
        for axis in reversed(axes):
            x = c.call(torch.prod, x, axis, keep)
        return x
    if name == "ReduceL2":
        return c.call(torch.linalg.vector_norm, x, 2, axes, keep)
    made = c.call(_REDUCTIONS.get(name, torch.sum), x, dim=axes, keepdim=keep)
    if name == "ReduceLogSum":
        return c.call(torch.log, made)
    return made if made.dtype == x.dtype else c.call(torch.Tensor.to, made, x.dtype)


@op("ArgMax", "ArgMin")
def arg_extreme(c: Context) -> Value:
    if c.flag("select_last_index"):
        raise c.refuse("takes the last of several equal values")
    function = torch.argmax if c.type == "ArgMax" else torch.argmin
    return c.call(function, c.value(0), c.axis(0), c.flag("keepdims", 1))


@op("TopK")
def top_k(c: Context) -> Made:
    """Equal values come in no certain order: ONNX takes the lower index first, torch does not say."""
    k = int(c.constant(1).reshape(())) if c.has(1) else int(c.get("k", 1))
    if k > c.shape(0)[c.axis(-1)]:
        raise c.refuse(f"takes {k} of {c.shape(0)[c.axis(-1)]} values")
    return c.call(torch.topk, c.value(0), k, c.axis(-1), c.flag("largest", 1), c.flag("sorted", 1))


@op("CumSum")
def running_sum(c: Context) -> Value:
    x, axis = c.value(0), int(c.constant(1).reshape(())) % c.rank()
    backwards, exclusive = c.flag("reverse"), c.flag("exclusive")
    turned = c.call(torch.flip, x, [axis]) if backwards else x
    total = c.call(torch.cumsum, turned, axis)
    if total.dtype != x.dtype:
        total = c.call(torch.Tensor.to, total, x.dtype)
    if exclusive:
        total = c.call(torch.sub, total, turned)
    return c.call(torch.flip, total, [axis]) if backwards else total
