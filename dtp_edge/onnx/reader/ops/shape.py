"""Shapes: reshaping, moving dimensions, repeating, types, and what is known from shapes alone."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.dtypes import HALF, torch_dtype
from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Size, Value, bounded


@op("Identity")
def identity(c: Context) -> Value:
    return c.value(0)


@op("Dropout")
def dropout(c: Context) -> Value:
    c.only_output("gives the mask that it drew")
    c.get("ratio", 0.5), c.get("seed", 0), c.optional(1)
    if c.has(2) and bool(c.constant(2).reshape(())):
        raise c.refuse("runs in training mode")
    return c.value(0)


def torch_type(number: int) -> torch.dtype:
    """The torch type of one of ONNX's; what is 16-bit in the file is computed in 32."""
    return torch.float32 if number in HALF else torch_dtype(number)


@op("Cast", "CastLike")
def cast(c: Context) -> Value:
    if c.type == "CastLike":
        return c.call(torch.Tensor.to, c.value(0), c.value(1).dtype)
    for name, default in (("saturate", 1), ("round_mode", "up")):  # of float8 alone
        c.get(name, default)
    wanted = torch_type(c.get("to", 0))
    return c.value(0) if c.value(0).dtype == wanted else c.call(torch.Tensor.to, c.value(0), wanted)


@op("Reshape")
def reshape(c: Context) -> Value:
    target, source = c.integers(1, "shape") or [], c.shape(0)
    if not c.flag("allowzero"):
        target = [source[i] if v == 0 else v for i, v in enumerate(target)]
    known = math.prod(v for v in target if v != -1)
    if -1 in target:
        target[target.index(-1)] = math.prod(source) // max(known, 1)
    return c.call(torch.reshape, c.value(0), _free_batch(c, target, source))


def _free_batch(c: Context, target: list[int], source: tuple[int, ...]) -> list[Size | int]:
    """Let the leading dimension follow the input, so that a file of batch 1 trains at any batch."""
    if c.free_batch and target and source and target[0] == source[0]:
        return [c.batch(c.value(0)), *target[1:]]
    return list(target)


@op("Flatten")
def flatten(c: Context) -> Value:
    axis, shape = int(c.get("axis", 1)), c.shape(0)
    axis = axis + len(shape) if axis < 0 else axis
    if axis == 1 and len(shape) > 1:
        return c.call(torch.flatten, c.value(0), 1)
    return c.call(torch.reshape, c.value(0), [math.prod(shape[:axis]), math.prod(shape[axis:])])


@op("Transpose")
def transpose(c: Context) -> Value:
    return c.call(torch.permute, c.value(0), list(c.get("perm", range(c.rank())[::-1])))


@op("Squeeze")
def squeeze(c: Context) -> Value:
    axes = c.integers(1, "axes")
    if axes is None:
        axes = [i for i, size in enumerate(c.shape(0)) if size == 1]
    axes = [a % c.rank() for a in axes]
    if any(c.shape(0)[a] != 1 for a in axes):
        raise c.refuse(f"squeezes dimensions {axes} of {list(c.shape(0))}")
    return c.call(torch.squeeze, c.value(0), axes)


@op("Unsqueeze")
def unsqueeze(c: Context) -> Value:
    axes = c.integers(1, "axes") or []
    value, rank = c.value(0), c.rank() + len(axes)
    for axis in sorted(a % rank for a in axes):
        value = c.call(torch.unsqueeze, value, axis)
    return value


@op("Expand")
def expand(c: Context) -> Value:
    target, source = [int(v) for v in c.constant(1).reshape(-1)], c.shape(0)
    rank = max(len(target), len(source))
    wide, own = [1] * (rank - len(target)) + target, [1] * (rank - len(source)) + list(source)
    sizes = [s if t == 1 else t for t, s in zip(wide, own, strict=True)]
    bounded(sizes)
    if sizes == list(source):
        return c.value(0)
    kept = [
        -1 if t == s and i >= rank - len(source) else t
        for i, (t, s) in enumerate(zip(sizes, own, strict=True))
    ]
    return c.call(torch.Tensor.expand, c.value(0), kept)


@op("Tile")
def tile(c: Context) -> Value:
    counts = [int(v) for v in c.constant(1).reshape(-1)]
    bounded([s * n for s, n in zip(c.shape(0), counts, strict=True)])
    return c.call(torch.Tensor.repeat, c.value(0), counts)


@op("Shape")
def shape_of(c: Context) -> Value:
    start, end = c.get("start", 0), c.get("end", None)
    return c.tensor(np.array(c.shape(0)[start:end], dtype=np.int64))


@op("Size")
def size_of(c: Context) -> Value:
    return c.tensor(np.array(math.prod(c.shape(0)), dtype=np.int64))


@op("ConstantOfShape")
def constant_of_shape(c: Context) -> Value:
    sizes = [int(v) for v in c.constant(0).reshape(-1)]
    bounded(sizes)
    given = c.get("value", None)
    fill = np.zeros(1, np.float32) if given is None else onnx.numpy_helper.to_array(given)
    return c.tensor(np.full(sizes, fill.reshape(-1)[0], fill.dtype))


@op("Range")
def range_of(c: Context) -> Value:
    kind = c.constant(0).dtype
    start, limit, step = (c.constant(i).reshape(()).item() for i in range(3))
    if step == 0:
        raise c.refuse("has a step of 0")
    bounded([max(math.ceil((limit - start) / step), 0)])
    return c.tensor(np.arange(start, limit, step, dtype=kind))


@op("EyeLike")
def eye_like(c: Context) -> Value:
    rows, columns = c.shape(0)
    kind, k = c.get("dtype", None), c.get("k", 0)
    wanted = c.value(0).dtype if kind is None else torch_type(kind)
    return c.tensor(torch.from_numpy(np.eye(rows, columns, k)).to(wanted))


@op("Trilu")
def triangle(c: Context) -> Value:
    k = int(c.constant(1).reshape(())) if c.has(1) else 0
    return c.call(torch.triu if c.flag("upper", 1) else torch.tril, c.value(0), k)


@op("DepthToSpace")
def depth_to_space(c: Context) -> Value:
    block, mode = int(c.get("blocksize", 1)), c.get("mode", "DCR")
    if mode == "CRD":
        return c.call(F.pixel_shuffle, c.value(0), block)
    _, channels, height, width = c.shape(0)
    parts = [c.batch(c.value(0)), block, block, channels // block**2, height, width]
    x = c.call(torch.permute, c.call(torch.reshape, c.value(0), parts), [0, 3, 4, 1, 5, 2])
    sizes = [parts[0], channels // block**2, height * block, width * block]
    return c.call(torch.reshape, x, sizes)


@op("SpaceToDepth")
def space_to_depth(c: Context) -> Value:
    block = int(c.get("blocksize", 1))
    _, channels, height, width = c.shape(0)
    batch = c.batch(c.value(0))
    parts = [batch, channels, height // block, block, width // block, block]
    x = c.call(torch.permute, c.call(torch.reshape, c.value(0), parts), [0, 3, 5, 1, 2, 4])
    return c.call(torch.reshape, x, [batch, channels * block**2, height // block, width // block])
