"""Channels between two layers brought to like ranges, which one step a tensor would else round away.

Where all that lies between two layers is positively homogeneous, f(s x) = s f(x) for s > 0 (ReLU, pools,
means), what the first puts out for a channel may be divided by s and what the second reads of it multiplied.
With s = sqrt(range of the first's weights / range of the second's) both ranges are the same (Nagel et al.,
Data-free quantization through weight equalization and bias correction, ICCV 2019). Here s is a power of two:
the network computes the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from dtp_edge.int8.rounding import WEIGHTED
from dtp_edge.ops.nodes import arguments_of, lookup, op_name

ROUNDS = 30  # a scale wanders along a chain of layers; most chains rest after a few
_POOLS = (
    "max_pool1d",
    "max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
)
_BETWEEN = frozenset(("relu", "relu_", "leaky_relu", "leaky_relu_", "dropout", *_POOLS))
_TO_VECTORS = ("flatten", "view", "reshape", "squeeze")  # where only the channels are left


@dataclass(frozen=True)
class _Pair:
    """Two layers, by their tensors: `weight` and `bias` put channels out, `reader` reads them."""

    weight: Tensor
    bias: Tensor | None
    reader: Tensor
    groups: int  # of the reader

    def move(self) -> bool:
        """Bring the channels to like ranges; return whether anything moved."""
        out = self.weight.flatten(1).abs().amax(dim=1)
        read = self._reader().abs().amax(dim=(1, 3)).flatten()
        alive = (out > 0) & (read > 0)
        ratio = torch.where(alive, out, 1.0) / torch.where(alive, read, 1.0)
        scale = torch.exp2(torch.round(torch.log2(ratio) / 2))
        self.weight.div_(scale.view(-1, *[1] * (self.weight.ndim - 1)))
        if self.bias is not None:
            self.bias.div_(scale)
        self._reader().mul_(scale.view(self.groups, 1, -1, 1))
        return bool((scale != 1).any())

    def _reader(self) -> Tensor:
        """The reader's weights as `[groups, out, in, taps]`."""
        return self.reader.view(self.groups, -1, self.reader.shape[1], self.reader[0, 0].numel())


class _Shapes(fx.Interpreter):
    """Runs a graph once, and knows the shape of every value."""

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        super().__init__(module)
        self.of: dict[fx.Node, tuple[int, ...]] = {}
        self.run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.of[n] = tuple(value.shape) if isinstance(value, Tensor) else ()
        return value


@torch.no_grad()
def equalise(module: fx.GraphModule, inputs: Sequence[Any]) -> int:
    """Equalise the weights of a graph (norms folded) in place; return between how many pairs of layers.

    `inputs` are any that it can be called with.
    """
    pairs = _pairs(module, _Shapes(module, inputs).of)
    for _ in range(ROUNDS):
        moved = [pair.move() for pair in pairs]
        if not any(moved):
            break
    return len(pairs)


def _pairs(module: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]]) -> list[_Pair]:
    readers: dict[str, int] = {}  # of a tensor: one that several nodes read is left as it is
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] = readers.get(str(node.target), 0) + len(node.users)
    layers = [n for n in module.graph.nodes if n.op == "call_function" and op_name(n) in WEIGHTED]
    found = [_pair(module, layer, readers, shapes) for layer in layers]
    return [pair for pair in found if pair is not None]


def _pair(
    module: fx.GraphModule,
    first: fx.Node,
    readers: Mapping[str, int],
    shapes: Mapping[fx.Node, tuple[int, ...]],
) -> _Pair | None:
    last, after = first, _sole_reader(first)
    while after is not None and _keeps_channels(after, last, shapes):
        last, after = after, _sole_reader(after)
    if after is None or op_name(after) not in WEIGHTED or arguments_of(after)["input"] is not last:
        return None
    if any(op_name(n) == "linear" and len(shapes[n]) != 2 for n in (first, after)):
        return None  # of tokens: their channels are in the last dimension
    given, asked = arguments_of(first), arguments_of(after)
    weight, reader = (_own(module, n["weight"], readers) for n in (given, asked))
    bias = None if given.get("bias") is None else _own(module, given["bias"], readers)
    groups = int(asked.get("groups", 1))
    if weight is None or reader is None or (bias is None) != (given.get("bias") is None):
        return None
    return _Pair(weight, bias, reader, groups) if len(weight) == groups * reader.shape[1] else None


def _sole_reader(node: fx.Node) -> fx.Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and readers[0].op == "call_function" else None


def _keeps_channels(node: fx.Node, before: fx.Node, shapes: Mapping[fx.Node, tuple[int, ...]]) -> bool:
    """Whether a node is homogeneous and leaves the channels where they are, in dimension 1."""
    name = op_name(node)
    if node.all_input_nodes != [before]:
        return False
    if name in _TO_VECTORS or name == "mean":
        rank = len(shapes[before])
        over = sorted(d % rank for d in arguments_of(node).get("dim") or ()) if name == "mean" else None
        return shapes[node] == shapes[before][:2] and over in (None, list(range(2, rank)))
    return name in _BETWEEN


def _own(module: fx.GraphModule, node: Any, readers: Mapping[str, int]) -> Tensor | None:
    """Return the tensor that a node reads, where no other does."""
    if not isinstance(node, fx.Node) or node.op != "get_attr" or readers[str(node.target)] != 1:
        return None
    tensor = lookup(module, str(node.target)).detach()
    return tensor if tensor.is_contiguous() else None
