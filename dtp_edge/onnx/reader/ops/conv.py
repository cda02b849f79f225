"""Convolutions and transposed convolutions."""

from __future__ import annotations

import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value
from dtp_edge.onnx.reader.windows import padded, steps, symmetric, window

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _kernel(c: Context) -> list[int]:
    kernel = list(c.shape(1)[2:])
    said = list(c.get("kernel_shape", kernel))
    if said != kernel:
        raise c.refuse(f"declares a kernel of {said}, its weight has {kernel}")
    if len(kernel) not in _CONVS:
        raise c.refuse(f"has a weight of shape {list(c.shape(1))}")
    return kernel


@op("Conv")
def conv(c: Context) -> Value:
    kernel = _kernel(c)
    strides, dilations, pads = window(c, kernel)
    x, padding = c.value(0), symmetric(pads)
    if padding is None:
        x, padding = padded(c, x, pads), [0] * len(kernel)
    function = _CONVS[len(kernel)]
    return c.call(function, x, c.value(1), c.optional(2), strides, padding, dilations, c.get("group", 1))


@op("ConvTranspose")
def conv_transpose(c: Context) -> Value:
    """torch crops both ends alike; where ONNX does not, a call of its own crops."""
    kernel = _kernel(c)
    n = len(kernel)
    strides, dilations = steps(c, n)
    pads, extra = list(c.get("pads", [0] * (2 * n))), list(c.get("output_padding", [0] * n))
    auto, target = c.get("auto_pad", "NOTSET") or "NOTSET", c.get("output_shape", None)
    source = c.shape(0)[2:]
    full = [
        s * (size - 1) + e + (k - 1) * d + 1
        for s, size, e, k, d in zip(strides, source, extra, kernel, dilations, strict=True)
    ]
    if auto.startswith("SAME") and target is None:
        target = [size * s for size, s in zip(source, strides, strict=True)]
    if target is not None:
        total = [max(f - t, 0) for f, t in zip(full, list(target)[-n:], strict=True)]
        small = [t // 2 for t in total]
        large = [t - h for t, h in zip(total, small, strict=True)]
        pads = small + large if auto == "SAME_UPPER" else large + small
        if any(f < t for f, t in zip(full, list(target)[-n:], strict=True)):
            raise c.refuse(f"asks for an output of {list(target)}, larger than {full}")
    elif auto == "VALID":
        pads = [0] * (2 * n)
    crop = symmetric(pads)
    y = c.call(
        _TRANSPOSED[n],
        *(c.value(0), c.value(1), c.optional(2), strides, crop or [0] * n, extra),
        *(c.get("group", 1), dilations),
    )
    return y if crop is not None else padded(c, y, [-p for p in pads])
