"""Resize, Upsample, Pad, GridSample.

ONNX can resample in many ways, all of them one dimension at a time. Each is computed as a table of what an
output reads; where torch's own `interpolate` has the same table it is called, else the table is applied.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.resampling import coordinates, nearest, weights
from dtp_edge.onnx.reader.values import Value, bounded
from dtp_edge.onnx.reader.windows import padded, torch_pads


@op("Upsample")
def upsample(c: Context) -> Value:
    scales = [float(v) for v in (c.constant(1).reshape(-1) if c.has(1) else c.get("scales", []))]
    sizes = [math.floor(s * f) for s, f in zip(c.shape(0), scales, strict=True)]
    return _resampled(c, sizes, scales, "asymmetric", "floor")


@op("Resize")
def resize(c: Context) -> Value:
    source, legacy = c.shape(0), c.opset < 11
    index = 1 if legacy else 2
    axes = [a % c.rank() for a in c.get("axes", range(c.rank()))]
    policy = c.get("keep_aspect_ratio_policy", "stretch")
    sizes, scales = list(source), [1.0] * len(source)
    if c.has(3) and c.shape(3) != (0,):
        wanted = [int(v) for v in c.constant(3).reshape(-1)]
        ratios = [w / source[a] for a, w in zip(axes, wanted, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            wanted = [math.floor(ratio * source[a] + 0.5) for a in axes]
        for a, size, ratio in zip(axes, wanted, ratios, strict=True):
            sizes[a], scales[a] = size, ratio
    else:
        for a, ratio in zip(axes, c.constant(index).reshape(-1), strict=True):
            sizes[a], scales[a] = math.floor(source[a] * float(ratio)), float(ratio)
    if c.has(2) and not legacy:
        c.value(2)
    how = c.get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel")
    rounding = c.get("nearest_mode", "floor" if legacy else "round_prefer_floor")
    return _resampled(c, sizes, scales, how, rounding)


def _resampled(c: Context, sizes: list[int], scales: list[float], how: str, rounding: str) -> Value:
    mode, x = c.get("mode", "nearest"), c.value(0)
    if mode not in ("nearest", "linear", "cubic"):
        raise c.refuse(f"interpolates by {mode!r}")
    bounded(sizes)
    cubic, exclude = float(c.get("cubic_coeff_a", -0.75)), c.flag("exclude_outside")
    antialias, roi = c.flag("antialias"), _region(c, how)
    tables: dict[int, np.ndarray] = {}
    for axis, (size, out) in enumerate(zip(x.shape, sizes, strict=True)):
        if size == out and scales[axis] == 1.0 and roi is None:
            continue
        places = coordinates(how, size, out, scales[axis], None if roi is None else roi[axis])
        if places is None:
            raise c.refuse(f"maps its pixels by {how}")
        if roi is not None and ((places < 0) | (places > size - 1)).any():
            raise c.refuse("crops beyond its input")
        tables[axis] = (
            nearest(places, size, rounding)
            if mode == "nearest"
            else weights(mode, places, size, scales[axis], cubic=cubic, exclude=exclude, antialias=antialias)
        )
    return _as_torch(c, mode, tables, sizes) or _applied(c, mode, tables)


def _region(c: Context, how: str) -> list[tuple[float, float]] | None:
    if how != "tf_crop_and_resize":
        if c.opset >= 11 and c.type == "Resize" and c.has(1):
            c.value(1)
        return None
    c.get("extrapolation_value", 0.0)
    roi, n = c.constant(1).reshape(-1), c.rank()
    if len(roi) != 2 * n:
        raise c.refuse("crops along some axes only")
    return [(float(roi[i]), float(roi[n + i])) for i in range(n)]


_NAMES = {
    ("linear", 3): "linear",
    ("linear", 4): "bilinear",
    ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}


def _as_torch(c: Context, mode: str, tables: dict[int, np.ndarray], sizes: list[int]) -> Value | None:
    """Call `interpolate` where it reads the same pixels with the same weights."""
    x, rank = c.value(0), c.rank()
    if not tables:
        return x
    if rank not in (3, 4, 5) or min(tables) < 2:
        return None
    name = "nearest" if mode == "nearest" else _NAMES.get((mode, rank))
    for corners in (None,) if mode == "nearest" else (False, True):
        if name is not None and all(_same(mode, x.shape[a], sizes[a], corners, t) for a, t in tables.items()):
            return c.call(F.interpolate, x, size=sizes[2:], mode=name, align_corners=corners)
    return None


def _same(mode: str, size: int, out: int, corners: bool | None, table: np.ndarray) -> bool:
    how = "align_corners" if corners else "asymmetric" if mode == "nearest" else "half_pixel"
    places = coordinates(how, size, out, out / size, None)
    assert places is not None
    if mode == "nearest":
        return bool((nearest(places, size, "floor") == table).all())
    if mode == "linear":
        places = np.maximum(places, 0)
    found = weights(mode, places, size, out / size, cubic=-0.75, exclude=False, antialias=False)
    return bool(np.allclose(found, table, atol=1e-6))


def _applied(c: Context, mode: str, tables: dict[int, np.ndarray]) -> Value:
    x = c.value(0)
    for axis, table in tables.items():
        if mode == "nearest":
            x = c.call(torch.index_select, x, axis, c.tensor(table))
            continue
        turned = x if axis == c.rank() - 1 else c.call(torch.transpose, x, axis, -1)
        turned = c.call(torch.matmul, turned, c.tensor(np.ascontiguousarray(table.T), like=x))
        x = turned if axis == c.rank() - 1 else c.call(torch.transpose, turned, axis, -1)
    return x


_TORCH_PADS = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@op("Pad")
def pad(c: Context) -> Value:
    rank, x, mode = c.rank(), c.value(0), c.get("mode", "constant")
    given = (c.integers(1, "pads") if c.opset >= 11 else list(c.get("pads", []))) or []
    axes = [int(a) % rank for a in c.constant(3).reshape(-1)] if c.has(3) else list(range(rank))
    pads = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        pads[axis], pads[axis + rank] = given[i], given[i + len(axes)]
    value = c.number(2, "value")
    if not any(pads):
        return x
    if mode == "constant":
        fill = 0.0 if value is None else value
        return padded(c, x, pads, fill if x.dtype.is_floating_point else int(fill))
    bounded(s + b + e for s, b, e in zip(x.shape, pads[:rank], pads[rank:], strict=True))
    if mode not in _TORCH_PADS:
        raise c.refuse(f"pads in mode {mode!r}")
    flat = torch_pads(pads)
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    fits = len(flat) == 2 * (rank - 2) and rank in (3, 4, 5) and mode != "wrap" and min(flat) >= 0
    if fits and (mode == "edge" or all(p < x.shape[-1 - i // 2] for i, p in enumerate(flat))):
        return c.call(F.pad, x, flat, _TORCH_PADS[mode])
    for axis in range(rank):
        begin, end = pads[axis], pads[axis + rank]
        if begin or end:
            numbers = np.pad(np.arange(x.shape[axis]), (max(begin, 0), max(end, 0)), mode)  # pyright: ignore
            numbers = numbers[max(-begin, 0) : len(numbers) - max(-end, 0)]
            x = c.call(torch.index_select, x, axis, c.tensor(numbers))
    return x


_SAMPLING = {"linear": "bilinear", "cubic": "bicubic"}


@op("GridSample")
def grid_sample(c: Context) -> Value:
    mode, corners = c.get("mode", "linear"), c.flag("align_corners")
    how = c.get("padding_mode", "zeros")
    return c.call(F.grid_sample, c.value(0), c.value(1), _SAMPLING.get(mode, mode), how, corners)
