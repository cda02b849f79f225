"""Chosen channels (`Gather` along dimension 1) in a form that OpenVINO and pnnx read right.

What `absorb_orders` leaves of a channel shuffle becomes `Split` and `Concat` where it is in few stretches; in
many, a `Gather` over `[N, C, H*W]` between two reshapes. OpenVINO 2026.4 is wrong on Conv, Gather, Conv (by
0.9 of range) but not behind a reshape, and pnnx takes a Gather for the choice of one index. Split and Concat
of all channels would suit ncnn too, but cost ShuffleNet 38 % of its speed in ONNX Runtime.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import onnx_ir as ir

from dtp_edge.onnx.absorber import runs
from dtp_edge.onnx.rewriting import Maker, NodeRewrite, array, float_shape, ints, node

FEW = 16  # stretches of channels that are split and joined


class Choice(NamedTuple):
    """Chosen channels: their stretches, where the tensor is cut, and how many there are."""

    stretches: list[tuple[int, int]]
    cuts: list[int]
    count: int


class ChosenChannels(NodeRewrite):
    """`Gather(x, [4, 5, 0, 1], axis 1)` -> `Concat` of parts of `Split(x)`, or a Gather between reshapes."""

    op_type = "Gather"
    after = ("absorb_orders", "numbered_gather")
    opset = 13

    def match(self, node: ir.Node) -> Choice | None:
        shape, chosen = float_shape(node.inputs[0]), ints(node.inputs[1])
        if shape is None or len(shape) not in (3, 4, 5) or chosen is None:
            return None
        index, total = array(node.inputs[1]), shape[1]
        if (
            node.attributes.get_int("axis", 0) % len(shape) != 1
            or total is None
            or index is None
            or not index.ndim
        ):
            return None
        stretches = runs([i % total for i in chosen])
        cuts = sorted({0, total, *(edge for run in stretches for edge in run)})
        known = len(shape) > 3 and None not in shape[2:]
        return Choice(stretches, cuts, len(chosen)) if known or _is_few(stretches, cuts) else None

    def build(self, gather: ir.Node, found: Choice, make: Maker) -> list[ir.Node]:
        return (
            _split(gather, found, make)
            if _is_few(found.stretches, found.cuts)
            else _flat(gather, found, make)
        )


def _is_few(stretches: list[tuple[int, int]], cuts: list[int]) -> bool:
    return max(len(stretches), len(cuts) - 1) <= FEW


def _split(gather: ir.Node, found: Choice, make: Maker) -> list[ir.Node]:
    source, target, name = gather.inputs[0], gather.outputs[0].name, gather.name or ""
    if len(found.cuts) == 2:
        return [node("Concat", [source] * len(found.stretches), [ir.Value()], name, axis=1)]
    pieces = {start: make.value(f"{target}_from_{start}") for start in found.cuts[:-1]}
    sizes = make.constant(f"{target}_sizes", [b - a for a, b in itertools.pairwise(found.cuts)])
    wanted = [pieces[c] for start, stop in found.stretches for c in found.cuts if start <= c < stop]
    split = node("Split", [source, sizes], list(pieces.values()), "", axis=1)
    return [split, node("Concat", wanted, [ir.Value()], name, axis=1)]


def _flat(gather: ir.Node, found: Choice, make: Maker) -> list[ir.Node]:
    source, target = gather.inputs[0], gather.outputs[0].name
    places = (float_shape(source) or [])[2:]
    flat = make.constant(f"{target}_flat_shape", [0, 0, -1])  # 0: as it is
    whole = make.constant(f"{target}_whole_shape", [0, found.count, *(size or 0 for size in places)])
    one, two = make.value(f"{target}_flat"), make.value(f"{target}_chosen")
    return [
        node("Reshape", [source, flat], [one], ""),
        node("Gather", [one, gather.inputs[1]], [two], gather.name or "", axis=1),
        node("Reshape", [two, whole], [ir.Value()], ""),
    ]
