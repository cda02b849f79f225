"""Operators that only move positions: slice, split, select, roll, flip, pad, cat, index, channel shuffle.

Each is a gather: output position p along a dimension comes from input position `source[p]` (-1: padding).
Which positions survive on both sides is known from the labels, so the compact gather is known too. Where
the same operator with other literals makes that gather it is used; else `index_select` with constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.surgery.kept import Kept, dense_shape
from dtp_edge.surgery.resize import Site, aten, overloads, rule


def compact_gather(site: Site, source: np.ndarray, before: Kept, after: Kept, size: int) -> np.ndarray:
    """Return for each surviving output position its place in the compact input, -1 for padding."""
    wanted = source if after is None else source[after]
    inside = np.arange(size) if before is None else before
    real = wanted >= 0
    place = np.searchsorted(inside, wanted[real]).clip(max=len(inside) - 1)
    if not np.array_equal(inside[place], wanted[real]):
        raise site.wrong("keeps a position whose source is removed")
    result = np.full(len(wanted), -1)
    result[real] = place
    return result


def _ends(site: Site, dim_in: int, dim_out: int) -> tuple[Kept, Kept]:
    return site.kept.node(site.input())[dim_in], site.kept.node(site.old)[dim_out]


def _dim(site: Site, position: int, default: int = 0) -> int:
    return site.arg(position, "dim", default) % len(dense_shape(site.input()))


def constant(site: Site, values: np.ndarray) -> fx.Node:
    """Add an int64 buffer to the compact network and return the node that reads it."""
    name = f"_index_{len(site.constants)}"
    site.constants[name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
    with site.graph.inserting_before(site.new):
        return site.graph.create_node("get_attr", name, name=name.lstrip("_"))


def _become_index_select(site: Site, data: Any, dim: int, index: np.ndarray) -> None:
    site.new.target, site.new.kwargs = aten.index_select.default, {}
    site.new.args = (data, dim, constant(site, index))


def _index_after(site: Site, node: fx.Node, dim: int, index: np.ndarray) -> fx.Node:
    """Put an index_select behind `node`, for all who read it."""
    values = constant(site, index)
    with site.graph.inserting_after(node):
        chosen = site.graph.call_function(aten.index_select.default, (node, dim, values))
    node.replace_all_uses_with(chosen, delete_user_cb=lambda user: user is not chosen)
    return chosen


@rule(aten.slice.Tensor, aten.narrow.default)
def cut_slice(site: Site) -> None:
    dim = _dim(site, 1)
    before, after = _ends(site, dim, dim)
    if before is None and after is None:
        return
    size = dense_shape(site.input())[dim]
    if site.old.target is aten.narrow.default:
        start, length = site.arg(2, "start"), site.arg(3, "length")
        bounds = slice(start, start + length)
    else:
        bounds = slice(site.arg(2, "start"), site.arg(3, "end"), site.arg(4, "step", 1))
    place = compact_gather(site, np.arange(size)[bounds], before, after, size)
    step = int(place[1] - place[0]) if len(place) > 1 else 1
    data = site.new.args[0]
    if step > 0 and np.array_equal(place, place[0] + step * np.arange(len(place))):
        site.new.target, site.new.kwargs = aten.slice.Tensor, {}
        site.new.args = (data, dim, int(place[0]), int(place[-1]) + 1, step)
    else:
        _become_index_select(site, data, dim, place)


@rule(aten.select.int)
def select(site: Site) -> None:
    dim = _dim(site, 1)
    before = site.kept.node(site.input())[dim]
    if before is None:
        return
    index = site.arg(2, "index") % dense_shape(site.input())[dim]
    if index not in before:
        raise site.wrong(f"reads index {index}, which is removed")
    site.set_arg(2, "index", int(np.searchsorted(before, index)))


@rule(*overloads("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "tensor_split"))
def split(site: Site) -> None:
    dim = _dim(site, 2)
    before = site.kept.node(site.input())[dim]
    if before is None:
        return
    pieces = [v.shape[dim] for v in site.old.meta["val"]]
    stops = np.cumsum(pieces)
    counts = np.diff(np.searchsorted(before, np.append(0, stops)))
    site.new.target, site.new.kwargs = aten.split_with_sizes.default, {}
    site.new.args = (site.new.args[0], counts.tolist(), dim)


@rule(aten.roll.default)
def roll(site: Site) -> None:
    shifts, dims = site.arg(1, "shifts"), site.arg(2, "dims", [])
    shifts, dims = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    shape = dense_shape(site.input())
    moves = []  # what index_select must do along labelled dimensions
    for i, dim in enumerate(d % len(shape) for d in dims):
        before, after = _ends(site, dim, dim)
        if before is None and after is None:
            continue
        size = shape[dim]
        place = compact_gather(site, (np.arange(size) - shifts[i]) % size, before, after, size)
        count = len(place)
        shift = int(-place[0]) % count
        if np.array_equal(place, (np.arange(count) - shift) % count):
            shifts[i] = shift
        else:
            shifts[i] = 0
            moves.append((dim, place))
    site.new.args, site.new.kwargs = (site.new.args[0], shifts, dims), {}
    last = site.new
    for dim, place in moves:
        last = _index_after(site, last, dim, place)


@rule(aten.flip.default)
def flip(site: Site) -> None:
    shape = dense_shape(site.input())
    plain, moves = [], []
    for dim in (d % len(shape) for d in site.arg(1, "dims")):
        before, after = _ends(site, dim, dim)
        size = shape[dim]
        place = compact_gather(site, np.arange(size)[::-1], before, after, size)
        if np.array_equal(place, np.arange(len(place))[::-1]):
            plain.append(dim)
        else:
            moves.append((dim, place))
    site.new.args, site.new.kwargs = (site.new.args[0], plain), {}
    last = site.new
    for dim, place in moves:
        last = _index_after(site, last, dim, place)


@rule(*overloads("channel_shuffle", "native_channel_shuffle"))
def channel_shuffle(site: Site) -> None:
    before, after = _ends(site, 1, 1)
    if before is None and after is None:
        return
    size, groups = dense_shape(site.input())[1], site.arg(1, "groups")
    place = compact_gather(site, np.arange(size).reshape(groups, -1).T.ravel(), before, after, size)
    count = len(place)
    if count % groups or not np.array_equal(place, np.arange(count).reshape(groups, -1).T.ravel()):
        _become_index_select(site, site.new.args[0], 1, place)


@rule(aten.index_select.default)
def index_select(site: Site) -> None:
    dim = _dim(site, 1)
    _new_index(
        site, dim, dim, site.old.args[2], lambda i: _become_index_select(site, site.new.args[0], dim, i)
    )


@rule(aten.index.Tensor)
def index(site: Site) -> None:
    indices = list(site.arg(1, "indices"))
    used = [d for d, i in enumerate(indices) if i is not None]
    if len(used) != 1 or len(dense_shape(indices[used[0]])) != 1:
        return  # several or many-dimensional indices: labels leave the indexed dimensions whole

    def replace(place: np.ndarray) -> None:
        fresh = list(site.new.args[1])  # type: ignore[arg-type]
        fresh[used[0]] = constant(site, place)
        site.new.update_arg(1, fresh)

    _new_index(site, used[0], used[0], indices[used[0]], replace)


def _new_index(site: Site, dim_in: int, dim_out: int, node: Any, replace: Any) -> None:
    before, after = _ends(site, dim_in, dim_out)
    if before is None and after is None:
        return
    values = _constant_value(site, node)
    if values is None:
        raise site.wrong("indexes a pruned dimension by values that are not constant")
    size = dense_shape(site.input())[dim_in]
    source = np.flatnonzero(values) if values.dtype == bool else values % size
    replace(compact_gather(site, source, before, after, size))


def _constant_value(site: Site, node: Any) -> np.ndarray | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = site.kept.network.graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach().cpu().numpy()


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(site: Site) -> None:
    shape, pads = dense_shape(site.input()), list(site.arg(1, "pad"))
    mode = site.arg(2, "mode", "constant") if site.old.target is aten.pad.default else "constant"
    moves = []
    for k in range(len(pads) // 2):
        dim = len(shape) - 1 - k
        before, after = _ends(site, dim, dim)
        if before is None and after is None:
            continue
        low, high = pads[2 * k : 2 * k + 2]
        place = compact_gather(site, _padded(shape[dim], low, high, mode), before, after, shape[dim])
        count = shape[dim] if before is None else len(before)
        inner = np.flatnonzero(place >= 0)
        whole = np.array_equal(place[inner], np.arange(count)) and len(inner) == inner[-1] - inner[0] + 1
        if whole and mode == "constant":
            pads[2 * k : 2 * k + 2] = [int(inner[0]), len(place) - 1 - int(inner[-1])]
        else:  # one padded entry behind the data stands for all padding
            pads[2 * k : 2 * k + 2] = [0, 1 if mode == "constant" else 0]
            moves.append((dim, np.where(place < 0, count, place)))
    site.set_arg(1, "pad", pads)
    last = site.new
    for dim, place in moves:
        last = _index_after(site, last, dim, place)


def _padded(size: int, low: int, high: int, mode: str) -> np.ndarray:
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode)
    positions = np.arange(size)[max(-low, 0) : size - max(-high, 0)]
    widths = (max(low, 0), max(high, 0))
    if numpy_mode is None:
        return np.pad(positions, widths, constant_values=-1)
    return np.pad(positions, widths, mode=numpy_mode)  # type: ignore[call-overload]


@rule(aten.cat.default, *overloads("concat", "concatenate"))
def cat(site: Site) -> None:
    parts = site.old.args[0]
    dim = site.arg(1, "dim", 0) % len(dense_shape(site.old))
    after = site.kept.node(site.old)[dim]
    held, start = [], 0
    for part in parts:  # type: ignore[union-attr]
        size, kept = dense_shape(part)[dim], site.kept.node(part)[dim]  # type: ignore[arg-type]
        held.append(start + (np.arange(size) if kept is None else kept))
        start += size
    present = np.concatenate(held)
    wanted = np.arange(start) if after is None else after
    if np.array_equal(present, wanted):
        return
    place = np.searchsorted(present, wanted).clip(max=len(present) - 1)
    if not np.array_equal(present[place], wanted):
        raise site.wrong("keeps a channel that its inputs have lost")
    _index_after(site, site.new, dim, place)
