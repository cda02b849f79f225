"""Which kernels run on channels in blocks, and where the runtime copies between the two layouts.

ONNX Runtime's CPU provider on x86 keeps activations in blocks of 16 (AVX-512) or 8 (AVX2) channels where
it can. Rules, found by looking at the graphs that it optimises (versions 1.20 to 1.32):

- a convolution with fewer input channels than a block reads plain data and writes blocks ("stem");
  otherwise its input channels must be a multiple of `align` (4), or it runs on plain data, slower;
- depthwise: channels a multiple of `align`; grouped: both channel counts of a group whole blocks;
- pooling and concatenation: whole blocks; the global ones and concatenation only on data that is blocked;
- add, mul of equal shapes, relu, sigmoid, tanh, silu, nearest resize follow blocked data, and so does a
  batch norm of its own, as a depthwise 1x1 convolution;
- everything else, and every output of the graph, needs plain data.

So what a width costs depends on its neighbours, and a tensor that both kinds read is copied once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.kernels import Kernel, fuses_as, op_name
from dtp_edge.graph.layers import Dim, LayerGraph
from dtp_edge.ops.spec import spec_of
from dtp_edge.profiles.profile import Layout

BLOCKED, STEM, PLAIN = 0, 1, 2  # variants of a kernel
_CONV = ("conv1x1", "conv3x3", "conv", "depthwise", "grouped")
_LITERALS = ("add", "sub", "mul", "div")  # of a literal 0 or 1


@dataclass(frozen=True)
class Copy:
    """Tensor `tensor` changes layout ("reorder_in": plain to blocks); `kernel` is charged for it."""

    tensor: int
    kernel: int
    key: str


@dataclass(frozen=True)
class Assignment:
    """The variant of every kernel, int `[n_kernels]`, and the copies between layouts."""

    variant: np.ndarray
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class _Node:
    rule: str
    inputs: tuple[int, ...]  # tensors, -1 for one that is not followed
    outputs: tuple[int, ...]
    operand: int  # a fused residual, -1 for none
    groups: int


class BlockedLayout:
    """The layout decisions of one lowered network. `tensors` names the activations whose channel count
    matters; `assign` takes their channel counts in that order."""

    def __init__(
        self, graph: LayerGraph, kernels: Sequence[Kernel], views: Mapping[str, str], layout: Layout
    ) -> None:
        self._layout = layout
        self._producer_op = {out: op_name(layer) for layer in graph.layers for out in layer.outputs}
        self._views = views
        self._index: dict[str, int] = {}
        self.tensors: list[str] = []
        self._opaque: set[int] = set()  # read through a reshape: plain data is needed
        self._shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
        self._nodes = [self._node(k) for k in kernels]
        self._plain_outputs = tuple({self._root(name)[0] for name in graph.outputs})
        self._first_reader: dict[int, int] = {}
        for position, node in enumerate(self._nodes):
            for tensor in (*node.inputs, node.operand):
                self._first_reader.setdefault(tensor, position)
        self._cache: dict[bytes, Assignment] = {}

    def channels(self) -> list[Dim]:
        """Return the channel dimension of every followed tensor."""
        return [s[1] if len(s := self._shapes[name]) > 1 else Dim(1) for name in self.tensors]

    def assign(self, channels: np.ndarray) -> Assignment:
        """Return the decisions for channel counts `[n_tensors]`. A count between two integers stands for
        an aligned width: soft masks are costed as the widths that they will harden to."""
        whole = np.round(channels)
        align = self._layout.align
        soft = np.abs(channels - whole) > 1e-6
        counts = np.where(soft, np.ceil(channels / align) * align, whole).astype(np.int64)
        key = counts.tobytes()
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) > 4096:
                self._cache.clear()
            found = self._cache[key] = self._decide(counts.tolist())
        return found

    def _decide(self, counts: list[int]) -> Assignment:
        n = len(self.tensors)
        blocked, want_plain, want_blocked = [False] * n, [False] * n, [False] * n
        producer, variant = [-1] * n, np.full(len(self._nodes), BLOCKED)
        for tensor in self._plain_outputs:
            want_plain[tensor] = True
        for tensor in self._opaque:
            want_plain[tensor] = True
        for position, node in enumerate(self._nodes):
            choice, reads_blocks, writes_blocks = self._choose(node, counts, blocked)
            variant[position] = choice
            for tensor in node.inputs:
                if tensor >= 0:
                    (want_blocked if reads_blocks else want_plain)[tensor] = True
            if node.operand >= 0:
                (want_blocked if writes_blocks else want_plain)[node.operand] = True
            for tensor in node.outputs:
                blocked[tensor], producer[tensor] = writes_blocks, position
        copies = []
        for tensor in range(n):
            reader = self._first_reader.get(tensor, producer[tensor])
            owner = producer[tensor] if producer[tensor] >= 0 else reader
            if blocked[tensor] and want_plain[tensor]:
                copies.append(Copy(tensor, owner, "reorder_out"))
            elif (
                not blocked[tensor] and want_blocked[tensor] and len(self._shapes[self.tensors[tensor]]) == 4
            ):
                copies.append(Copy(tensor, owner, "reorder_in"))
        return Assignment(variant, tuple(copies))

    def _choose(self, node: _Node, counts: list[int], blocked: list[bool]) -> tuple[int, bool, bool]:
        """Return (variant, reads blocks, writes blocks)."""
        block, align = self._layout.block, self._layout.align
        first = node.inputs[0] if node.inputs else -1
        cin = counts[first] if first >= 0 else 0
        cout = counts[node.outputs[0]] if node.outputs and node.outputs[0] >= 0 else 0
        if node.rule == "dense":
            if cin < block:
                return STEM, False, True
            return (BLOCKED, True, True) if cin % align == 0 else (PLAIN, False, False)
        if node.rule == "depthwise":
            fits = cin % align == 0
        elif node.rule == "grouped":
            fits = cin % (block * node.groups) == 0 and cout % (block * node.groups) == 0
        elif node.rule == "window":
            fits = cin % block == 0
        elif node.rule in ("global", "concat", "follow"):
            fits = all(t >= 0 and blocked[t] for t in node.inputs) and (
                node.rule == "follow" or all(counts[t] % block == 0 for t in node.inputs)
            )
        else:
            fits = False
        return (BLOCKED, True, True) if fits else (PLAIN, False, False)

    def _node(self, kernel: Kernel) -> _Node:
        inputs = []
        for name in kernel.inputs:
            if name != kernel.fused_operand:
                root, opaque = self._root(name)
                inputs.append(root)
                if opaque:
                    self._opaque.add(root)
        operand = self._root(kernel.fused_operand)[0] if kernel.fused_operand else -1
        outputs = tuple(self._follow(name) for name in kernel.outputs)
        groups = int(kernel.attributes.get("groups", 1) or 1)  # type: ignore[call-overload]
        return _Node(self._rule(kernel), tuple(inputs), outputs, operand, groups)

    def _rule(self, kernel: Kernel) -> str:
        rank = len(self._shapes[kernel.outputs[0]])
        if rank != 4:
            return "plain"
        if fuses_as(kernel.op) == "norm":
            return "follow"
        if kernel.family in _CONV:
            return kernel.family if kernel.family in ("depthwise", "grouped") else "dense"
        layout = _layout(kernel.op)
        if layout == "global":
            one_pixel = all(d.size == 1 for d in self._shapes[kernel.outputs[0]][2:])
            return layout if one_pixel else "plain"
        if layout == "concat":
            return layout if int(kernel.attributes.get("dim", 1) or 0) in (1, -3) else "plain"  # type: ignore[call-overload]
        if layout == "follow":
            shapes = {self._shapes[name] for name in kernel.inputs}
            return layout if len(shapes) == 1 and not _has_operand(kernel) else "plain"
        return layout

    def _root(self, name: str) -> tuple[int, bool]:
        """Return the tensor whose storage `name` shows, and whether a reshape lies between."""
        opaque = False
        while name in self._views:
            opaque |= not _transparent(self._producer_op.get(name, ""))
            name = self._views[name]
        return self._follow(name), opaque

    def _follow(self, name: str) -> int:
        if name not in self._index:
            self._index[name] = len(self.tensors)
            self.tensors.append(name)
        return self._index[name]


def _layout(op: str) -> str:
    spec = spec_of(op)
    return "plain" if spec is None else spec.layout


def _transparent(op: str) -> bool:
    return op in _LITERALS or _layout(op) == "transparent"


def _has_operand(kernel: Kernel) -> bool:
    """An add or mul with a weight is no meeting of two activations: the runtime leaves it plain."""
    return kernel.op in ("add", "mul") and len(kernel.inputs) < 2
