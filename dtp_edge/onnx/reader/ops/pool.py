"""Pooling over windows and over whole maps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Made, Value
from dtp_edge.onnx.reader.windows import LARGEST, padded, symmetric, window

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _window(c: Context) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Return kernel, strides, dilations, pads, and what `ceil_mode` adds at the end of each dimension."""
    kernel = list(c.get("kernel_shape", []))
    n, more = len(kernel), []
    if n not in _MAX_POOLS:
        raise c.refuse(f"has a window of {n} dimensions")
    if any(not 1 <= k < LARGEST for k in kernel):
        raise c.refuse(f"has a window {kernel}")
    strides, dilations, pads = window(c, kernel)
    for i in range(n):
        span = c.shape(0)[2 + i] + pads[i] + pads[n + i] - (dilations[i] * (kernel[i] - 1) + 1)
        if span < 0:
            raise c.refuse(f"has a window {kernel} larger than its input {list(c.shape(0))}")
        steps = math.ceil(span / strides[i]) if c.flag("ceil_mode") else span // strides[i]
        starts = steps * strides[i] < c.shape(0)[2 + i] + pads[i]  # a window must not start in the end pad
        more.append(max((steps if starts else steps - 1) * strides[i] - span, 0))
    return kernel, strides, dilations, pads, more


@op("MaxPool")
def max_pool(c: Context) -> Value:
    c.only_output("gives the indices of its maxima")
    c.get("storage_order", 0)  # of the indices, which are not read
    kernel, strides, dilations, pads, more = _window(c)
    n, x = len(kernel), c.value(0)
    pads = [*pads[:n], *(p + m for p, m in zip(pads[n:], more, strict=True))]
    padding = symmetric(pads)
    if padding is None or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        lowest = float("-inf") if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
        x, padding = padded(c, x, pads, lowest), [0] * n
    return c.call(_MAX_POOLS[n], x, kernel, strides, padding, dilations)


@op("AveragePool")
def average_pool(c: Context) -> Value:
    """Where torch would not divide by the same counts, sums are divided by counts that are known now."""
    kernel, strides, dilations, pads, more = _window(c)
    n, count_pads, padding = len(kernel), c.flag("count_include_pad"), symmetric(pads)
    fits = padding is not None and all(2 * p <= k for p, k in zip(padding, kernel, strict=True))
    if fits and not any(more) and all(d == 1 for d in dilations):
        return c.call(_AVERAGE_POOLS[n], c.value(0), kernel, strides, padding, False, count_pads)
    ends = [p + m for p, m in zip(pads[n:], more, strict=True)]
    ones = torch.ones(1, 1, *c.shape(0)[2:])
    if count_pads:
        ones = F.pad(ones, _flat(pads[:n], pads[n:]), value=1.0)
        ones = F.pad(ones, _flat([0] * n, more))
    else:
        ones = F.pad(ones, _flat(pads[:n], ends))
    x = padded(c, c.value(0), [*pads[:n], *ends])
    if all(d == 1 for d in dilations):
        sums = c.call(_AVERAGE_POOLS[n], x, kernel, strides, [0] * n, False, True)
        shares = _AVERAGE_POOLS[n](ones, kernel, strides)
    else:
        sums = _dilated(c, x, kernel, strides, dilations)
        shares = _dilated(c, c.tensor(ones), kernel, strides, dilations).sample
    return c.call(torch.mul, sums, c.tensor(1.0 / shares, like=x))


def _flat(begin: list[int], end: list[int]) -> list[int]:
    return [p for b, e in reversed(list(zip(begin, end, strict=True))) for p in (b, e)]


def _dilated(c: Context, x: Value, kernel: list[int], strides: list[int], dilations: list[int]) -> Value:
    """Mean over a dilated window, one dimension after the other."""
    for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        size = (x.shape[2 + i] - d * (k - 1) - 1) // s + 1
        parts = [
            c.call(torch.ops.aten.slice.Tensor, x, 2 + i, j * d, j * d + (size - 1) * s + 1, s)
            for j in range(k)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = c.call(torch.add, total, part)
        x = c.call(torch.mul, total, 1.0 / k)
    return x


@op("LpPool")
def lp_pool(c: Context) -> Value:
    kernel, strides, dilations, pads, more = _window(c)
    if any(d != 1 for d in dilations):
        raise c.refuse("is dilated")
    p, n = float(c.get("p", 2)), len(kernel)
    x = c.call(torch.pow, c.call(torch.abs, c.value(0)), p)
    if any(pads) or any(more):
        x = padded(c, x, [*pads[:n], *(e + m for e, m in zip(pads[n:], more, strict=True))])
    mean = c.call(_AVERAGE_POOLS[n], x, kernel, strides)
    return c.call(torch.pow, c.call(torch.mul, mean, float(math.prod(kernel))), 1.0 / p)


@op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(c: Context) -> Made:
    dims = list(range(2, c.rank()))
    if c.type == "GlobalLpPool":
        return c.call(torch.linalg.vector_norm, c.value(0), float(c.get("p", 2)), dims, True)
    function = torch.mean if c.type == "GlobalAveragePool" else torch.amax
    return c.call(function, c.value(0), dim=dims, keepdim=True)
