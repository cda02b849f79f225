"""Joining, cutting, looking up and writing at indices."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Made, Value


@op("Concat")
def concat(c: Context) -> Value:
    """A class token of batch 1 follows the batch of what it joins."""
    values = [c.value(i) for i in range(c.count())]
    rank = len(values[0].shape)
    axis = c.axis(0, rank)
    free = next((v for v in values if not v.fixed), None)
    if c.free_batch and free is not None and axis != 0:
        for i, value in enumerate(values):
            if value.fixed and value.shape[0] == 1:
                values[i] = c.call(torch.Tensor.expand, value, [c.batch(free), *[-1] * (rank - 1)])
    return c.call(torch.cat, values, dim=axis)


@op("Split")
def split(c: Context) -> Made:
    axis, count = c.axis(0), len(c.node.output)
    sizes, parts = c.integers(1, "split"), c.get("num_outputs", count)
    if sizes is None:
        total = c.shape(0)[axis]
        chunk = -(-total // parts)
        sizes = [max(min(chunk, total - chunk * i), 0) for i in range(count)]
    return c.call(torch.split, c.value(0), sizes, axis)  # type: ignore[return-value]


@op("Slice")
def slice_(c: Context) -> Value:
    rank, value = c.rank(), c.value(0)
    starts, ends = c.integers(1, "starts") or [], c.integers(2, "ends") or []
    axes = c.integers(3, "axes") or list(range(len(starts)))
    steps = c.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = value.shape[axis]
        if step == 0:
            raise c.refuse("has a step of 0")
        if step < 0:  # ONNX clamps the end to -1, which Python would count from the back
            stop = None if end + size < 0 or (end < 0 and end <= -size - 1) else end
            kept = range(size)[start:stop:step]
            value = c.call(torch.index_select, value, axis % rank, c.tensor(np.array(kept, dtype=np.int64)))
            continue
        kept = range(size)[start:end:step]
        if len(kept) < size:
            value = c.call(torch.ops.aten.slice.Tensor, value, axis % rank, kept.start, kept.stop, step)
    return value


def _whole(c: Context, value: Value) -> Value:
    return value if value.dtype == torch.int64 else c.call(torch.Tensor.to, value, torch.int64)


@op("Gather")
def gather(c: Context) -> Value:
    """A constant index moves channels; one that is computed at run time looks a table up."""
    x, axis, index = c.value(0), c.axis(0), c.value(1)
    size = x.shape[axis]
    if index.constant:
        numbers = np.asarray(index.sample.numpy()).astype(np.int64)
        if numbers.size and not (-size <= numbers.min() and numbers.max() < size):
            raise c.refuse(f"looks up numbers outside of 0 to {size - 1}")
        numbers = np.where(numbers < 0, numbers + size, numbers)
        if numbers.ndim == 0:
            return c.call(torch.select, x, axis, int(numbers))
        found = c.call(torch.index_select, x, axis, c.tensor(numbers.reshape(-1)))
        return found if numbers.ndim == 1 else _unfolded(c, found, axis, numbers.shape)
    index = _whole(c, index)
    c.builder.looked_up(size)
    if axis == 0 and x.fixed and len(x.shape) == 2:
        return c.call(F.embedding, index, x)
    wrapped = c.call(torch.remainder, index, size)  # numbers count from the back where they are negative
    if axis == 0:
        return c.call(torch.ops.aten.index.Tensor, x, [wrapped])
    found = c.call(torch.index_select, x, axis, c.call(torch.reshape, wrapped, [-1]))
    return _unfolded(c, found, axis, index.shape)


def _unfolded(c: Context, x: Value, axis: int, shape: tuple[int, ...]) -> Value:
    sizes = list(x.shape)
    lead = [c.batch(x)] if axis > 0 and c.free_batch else sizes[: min(axis, 1)]
    return c.call(torch.reshape, x, [*lead, *sizes[1:axis], *shape, *sizes[axis + 1 :]])


def _wrapped(c: Context, index: Value, size: int) -> Value:
    index = _whole(c, index)
    if index.constant:
        return c.tensor(torch.remainder(index.sample, size))
    c.builder.looked_up(size)
    return c.call(torch.remainder, index, size)


@op("GatherElements")
def gather_elements(c: Context) -> Value:
    axis = c.axis(0)
    return c.call(torch.gather, c.value(0), axis, _wrapped(c, c.value(1), c.shape(0)[axis]))


@op("GatherND")
def gather_nd(c: Context) -> Value:
    if c.get("batch_dims", 0):
        raise c.refuse("looks up sample by sample (batch_dims)")
    return c.call(torch.ops.aten.index.Tensor, c.value(0), _coordinates(c, c.value(1)))


def _coordinates(c: Context, indices: Value) -> list[Value]:
    """The last dimension of `indices` holds one coordinate a leading dimension of the first input."""
    return [
        _wrapped(c, c.call(torch.select, indices, -1, i), c.shape(0)[i]) for i in range(indices.shape[-1])
    ]


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("ScatterElements", "Scatter")
def scatter_elements(c: Context) -> Value:
    axis, how = c.axis(0), c.get("reduction", "none")
    index = _wrapped(c, c.value(1), c.shape(0)[axis])
    if how == "none":
        return c.call(torch.scatter, c.value(0), axis, index, c.value(2))
    if how not in _REDUCE:
        raise c.refuse(f"reduces by {how!r}")
    return c.call(torch.scatter_reduce, c.value(0), axis, index, c.value(2), _REDUCE[how], include_self=True)


@op("ScatterND")
def scatter_nd(c: Context) -> Value:
    how = c.get("reduction", "none")
    if how not in ("none", "add"):
        raise c.refuse(f"reduces by {how!r}")
    return c.call(torch.index_put, c.value(0), tuple(_coordinates(c, c.value(1))), c.value(2), how == "add")


@op("OneHot")
def one_hot(c: Context) -> Value:
    depth, axis = int(c.constant(1).reshape(())), c.axis(-1, c.rank() + 1)
    numbers = c.tensor(np.arange(depth))
    index = c.call(torch.unsqueeze, _wrapped(c, c.value(0), depth), axis)
    shape = [depth if i == axis else 1 for i in range(c.rank() + 1)]
    hit = c.call(torch.eq, index, c.tensor(numbers.sample.reshape(shape)))
    off, on = (c.call(torch.select, c.value(2), 0, i) for i in range(2))
    return c.call(torch.where, hit, on, off)


@op("NonZero")
def non_zero(c: Context) -> Value:
    if not c.value(0).constant:
        raise c.refuse("returns a number of values that depends on its input")
    return c.tensor(np.array(np.nonzero(c.constant(0)), dtype=np.int64))
