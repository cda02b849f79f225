"""The pads of convolutions and pooling windows, in ONNX's words and in torch's."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context
from dtp_edge.onnx.reader.values import Value, bounded

LARGEST = 2**31  # of a step or a window, for torch


def steps(c: Context, n: int) -> tuple[list[int], list[int]]:
    """Return strides and dilations of a window of `n` dimensions, which are at least 1."""
    found = list(c.get("strides", [1] * n)), list(c.get("dilations", [1] * n))
    for name, values in zip(("strides", "dilations"), found, strict=True):
        if len(values) != n or any(not 1 <= v < LARGEST for v in values):
            raise c.refuse(f"has {name} {values} for a window of {n} dimensions")
    return found


def window(c: Context, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and pads [begin..., end...] of a node that slides a window."""
    n = len(kernel)
    strides, dilations = steps(c, n)
    explicit, auto = list(c.get("pads", [0] * (2 * n))), c.get("auto_pad", "NOTSET") or "NOTSET"
    if len(c.shape(0)) != n + 2:
        raise c.refuse(f"slides a window of {n} dimensions over an input of shape {list(c.shape(0))}")
    if auto == "NOTSET":
        return strides, dilations, explicit
    if auto == "VALID":
        return strides, dilations, [0] * (2 * n)
    begin, end = [], []
    for size, k, s, d in zip(c.shape(0)[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
        end.append(total - begin[-1])
    return strides, dilations, begin + end


def symmetric(pads: Sequence[int]) -> list[int] | None:
    """ONNX pads [begin..., end...] as torch's one number a dimension, or None if they differ."""
    half = len(pads) // 2
    equal = list(pads[:half]) == list(pads[half:]) and all(p >= 0 for p in pads)
    return list(pads[:half]) if equal else None


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX pads [begin..., end...] in the order of `F.pad`: last dimension first."""
    half = len(pads) // 2
    return [p for b, e in reversed(list(zip(pads[:half], pads[half:], strict=True))) for p in (b, e)]


def padded(c: Context, x: Value, pads: Sequence[int], value: float = 0.0) -> Value:
    """Pad with a constant, in a call of its own."""
    half = len(pads) // 2
    sizes = zip(x.shape[-half:], pads[:half], pads[half:], strict=True)
    bounded([*x.shape[:-half], *(s + b + e for s, b, e in sizes)])
    return c.call(F.pad, x, torch_pads(pads), "constant", value)
