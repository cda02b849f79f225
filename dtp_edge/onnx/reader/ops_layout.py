"""Operators that move values and compute nothing."""

from __future__ import annotations

import operator

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import fx

from dtp_edge.onnx.reader.registry import FIXED, Context, op


@op("Identity", "Dropout")
def identity(c: Context) -> fx.Node:
    return c.value(0)


@op("Cast")
def cast(c: Context) -> fx.Node:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(c.attributes["to"])
    return c.call(torch.Tensor.to, c.value(0), torch.from_numpy(np.zeros(1, dtype)).dtype)


@op("Reshape")
def reshape(c: Context) -> fx.Node:
    target, source = [int(v) for v in c.constant(1).reshape(-1)], c.shape(0)
    if not c.get("allowzero", 0):
        target = [source[i] if v == 0 else v for i, v in enumerate(target)]
    known = [v for v in target if v != -1]
    if -1 in target:
        target[target.index(-1)] = int(np.prod(source)) // max(int(np.prod(known)), 1)
    return c.call(torch.reshape, c.value(0), _free_batch(c, target, source))


def _free_batch(c: Context, target: list[int], source: tuple[int, ...]) -> list[fx.Node | int]:
    """Let the leading dimension follow the input, so that a file of batch 1 trains at any batch."""
    if c.free_batch and target and source and target[0] == source[0]:
        return [c.size(c.value(0), 0), *target[1:]]
    return list(target)


@op("Flatten")
def flatten(c: Context) -> fx.Node:
    if c.get("axis", 1) != 1:
        raise c.refuse("flattens at an axis other than 1")
    return c.call(torch.flatten, c.value(0), 1)


@op("Transpose")
def transpose(c: Context) -> fx.Node:
    order = c.get("perm", list(range(len(c.shape(0))))[::-1])
    return c.call(torch.permute, c.value(0), list(order))


@op("Squeeze")
def squeeze(c: Context) -> fx.Node:
    axes = c.integers(1, "axes")
    if axes is None:
        axes = [i for i, size in enumerate(c.shape(0)) if size == 1]
    return c.call(torch.squeeze, c.value(0), [a % len(c.shape(0)) for a in axes])


@op("Unsqueeze")
def unsqueeze(c: Context) -> fx.Node:
    axes = c.integers(1, "axes") or []
    rank = len(c.shape(0)) + len(axes)
    value = c.value(0)
    for axis in sorted(a % rank for a in axes):
        value = c.call(torch.unsqueeze, value, axis)
    return value


@op("Concat")
def concat(c: Context) -> fx.Node:
    values, axis = [c.value(i) for i in range(len(c.node.input))], c.attributes["axis"]
    free = next((v for v in values if not v.meta.get(FIXED)), None)
    if (
        c.free_batch and free is not None and axis != 0
    ):  # a class token of batch 1 follows the batch of what it joins
        for i, value in enumerate(values):
            if value.meta.get(FIXED) and c.shape(i)[0] == 1:
                sizes = [c.size(free, 0), *[-1] * (len(c.shape(i)) - 1)]
                values[i] = c.call(torch.Tensor.expand, value, sizes)
    return c.call(torch.cat, values, dim=axis)


@op("Split")
def split(c: Context) -> tuple[fx.Node, ...]:
    axis, count = c.get("axis", 0), len(c.node.output)
    sizes = c.integers(1, "split")
    if sizes is None:
        total = c.shape(0)[axis]
        chunk = -(-total // count)
        sizes = [min(chunk, total - chunk * i) for i in range(count)]
    parts = c.call(torch.split, c.value(0), sizes, axis)
    return tuple(c.call(operator.getitem, parts, i) for i in range(count))


@op("Slice")
def slice_(c: Context) -> fx.Node:
    rank = len(c.shape(0))
    starts, ends = c.integers(1, "starts") or [], c.integers(2, "ends") or []
    axes = c.integers(3, "axes") or list(range(len(starts)))
    steps = [int(v) for v in c.constant(4).reshape(-1)] if c.has(4) else [1] * len(starts)
    value = c.value(0)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            first = list(range(c.shape(0)[axis]))[start : None if end < -(2**31) else end : step]
            index = _buffer(c, np.array(first))
            value = c.call(torch.index_select, value, axis % rank, index)
        else:
            value = c.call(torch.ops.aten.slice.Tensor, value, axis % rank, start, min(end, 2**62), step)
    return value


def _buffer(c: Context, array: np.ndarray) -> fx.Node:
    """A constant of the file as a buffer of the network."""
    name = f"constant_{len(c.constants)}"
    c.constants[name] = array
    root = c.graph.owning_module
    assert root is not None
    root.register_buffer(name, torch.from_numpy(array.copy()))
    return c.graph.get_attr(name)


@op("Gather")
def gather(c: Context) -> fx.Node:
    axis, index = c.get("axis", 0), c.constant(1)
    if index.ndim == 0:
        return c.call(torch.select, c.value(0), axis, int(index))
    if index.ndim > 1:
        raise c.refuse("looks up with an index of more than one dimension")
    return c.call(torch.index_select, c.value(0), axis % len(c.shape(0)), _buffer(c, index.astype(np.int64)))


@op("Expand")
def expand(c: Context) -> fx.Node:
    target, source = [int(v) for v in c.constant(1).reshape(-1)], c.shape(0)
    padded = (1,) * (len(target) - len(source)) + tuple(source)
    sizes = [-1 if t in (1, p) else t for t, p in zip(target, padded, strict=True)]
    return c.call(torch.Tensor.expand, c.value(0), sizes)


@op("Pad")
def pad(c: Context) -> fx.Node:
    pads = c.integers(1, "pads") or []
    if c.has(3):
        axes = [int(a) % len(c.shape(0)) for a in c.constant(3).reshape(-1)]
        half, full = len(axes), [0] * (2 * len(c.shape(0)))
        for i, axis in enumerate(axes):
            full[axis], full[axis + len(c.shape(0))] = pads[i], pads[i + half]
        pads = full
    half = len(pads) // 2
    flat = [p for b, e in reversed(list(zip(pads[:half], pads[half:], strict=True))) for p in (b, e)]
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}.get(
        c.get("mode", b"constant")
    )
    if mode is None:
        raise c.refuse("pads in a mode that torch does not have")
    if mode == "constant":
        value = float(c.constant(2).reshape(())) if c.has(2) else 0.0
        return c.call(F.pad, c.value(0), flat, "constant", value)
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return c.call(F.pad, c.value(0), flat, mode)


@op("Resize")
def resize(c: Context) -> fx.Node:
    source = c.shape(0)
    if c.has(3):
        size = [int(v) for v in c.constant(3)]
    else:
        size = [int(np.floor(s * f)) for s, f in zip(source, c.constant(2), strict=True)]
    how = c.get("coordinate_transformation_mode", b"half_pixel").decode()
    mode = c.get("mode", b"nearest").decode()
    if list(size[:2]) != list(source[:2]) or mode not in ("nearest", "linear", "cubic"):
        raise c.refuse("resizes batch or channels, or in an unknown mode")
    if mode == "nearest":
        if how != "asymmetric" or c.get("nearest_mode", b"round_prefer_floor") != b"floor":
            raise c.refuse(f"rounds to the nearest pixel as {how}, which torch does not")
        return c.call(F.interpolate, c.value(0), size=size[2:], mode="nearest")
    if how not in ("align_corners", "half_pixel", "pytorch_half_pixel"):
        raise c.refuse(f"places its pixels as {how}")
    name = "bicubic" if mode == "cubic" else {3: "linear", 4: "bilinear", 5: "trilinear"}[len(source)]
    corners = how == "align_corners"
    return c.call(F.interpolate, c.value(0), size=size[2:], mode=name, align_corners=corners)


@op("DepthToSpace")
def depth_to_space(c: Context) -> fx.Node:
    if c.get("mode", b"DCR") != b"CRD":
        raise c.refuse("takes depth first (DCR)")
    return c.call(F.pixel_shuffle, c.value(0), c.attributes["blocksize"])
