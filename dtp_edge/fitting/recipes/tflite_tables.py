"""Layer tables of .tflite files (STM32 model zoo, MLPerf Tiny) as kernels."""

from __future__ import annotations

from collections.abc import Mapping

from dtp_edge.fitting.rows import KernelRow, LayerRow

_PRODUCTS = {"conv1x1": "conv1x1", "convkxk": "conv", "dwconv": "depthwise", "fc": "linear"}
_FREE = {"SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE"}
_OTHERS = {
    "ADD": "elementwise",
    "MUL": "elementwise",
    "DEQUANTIZE": "elementwise",
    "QUANTIZE": "elementwise",
    "SOFTMAX": "softmax",
    "MEAN": "pool",
    "MAX_POOL_2D": "pool",
    "AVERAGE_POOL_2D": "pool",
    "REDUCE_MAX": "pool",
    "RESIZE_BILINEAR": "resize",
}


def kernel_key(layer: LayerRow) -> str | None:
    """Return the kernel family of a .tflite operator, None for one that moves no data."""
    if layer.kind in _PRODUCTS:
        return _PRODUCTS[layer.kind]
    return None if layer.type in _FREE else _OTHERS.get(layer.type, "layout")


def rows_of(
    layers: list[LayerRow], steps: Mapping[str, Mapping[str, int]] | None = None
) -> tuple[KernelRow, ...]:
    """Return a network's kernels, channels rounded up to `steps` as the profile will do."""
    rows = []
    for layer in layers:
        key = kernel_key(layer)
        if key is None:
            continue
        step = (steps or {}).get(key, {})
        work = layer.macs
        for side, count in (("in_channels", layer.cin), ("out_channels", layer.cout)):
            if count and side in step:
                work *= -(-count // step[side]) * step[side] / count
        moved = layer.in_elements + layer.out_elements
        rows.append(KernelRow(key, work, moved, layer.params if layer.macs else 0.0))
    return tuple(rows)
