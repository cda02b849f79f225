"""Weights stored as whole numbers: read as the floating-point numbers that they stand for."""

from __future__ import annotations

import numpy as np
import torch

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value


@op("DequantizeLinear")
def dequantise(c: Context) -> Value:
    stored, scale = c.constant(0), c.constant(1)
    zero = c.constant(2) if c.has(2) else np.zeros((), stored.dtype)
    axis, block = int(c.get("axis", 1)), int(c.get("block_size", 0))
    if block:
        scale, zero = (np.repeat(v, block, axis) if np.ndim(v) > 1 else v for v in (scale, zero))
    elif scale.ndim == 1 and scale.size > 1:
        shape = [1] * stored.ndim
        shape[axis % stored.ndim] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.ndim else zero
    wide = np.float64 if stored.dtype == np.int32 else np.float32
    number = (stored.astype(wide) - zero.astype(wide)) * scale.astype(wide)
    value = c.tensor(torch.from_numpy(np.asarray(number.astype(scale.dtype))))
    value.name, value.weight = c.value(0).name, True
    return value
