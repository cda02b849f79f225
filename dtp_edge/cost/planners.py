"""How a runtime other than the profile's plans its memory: its own steps, what it writes in place, and where.

A planner rewrites the layers to the runtime's own steps (a padded copy before a convolution, SiLU in two),
says what it fuses and reuses, and lays tensors out as the runtime does. `NetworkCost` takes one for its RAM;
`RuntimePlan` says the bytes of the whole arena at integer sizes. Read from the runtimes' sources (ExecuTorch
1.5, LiteRT 2.3) and held against their plans in `benchmarks/results/formats.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dtp_edge.cost.gate_factors import Gates
from dtp_edge.cost.kernels import as_tuple, lower, op_name, takes_all
from dtp_edge.cost.memory import MemoryPlan
from dtp_edge.cost.terms import TermBuilder
from dtp_edge.errors import InputError
from dtp_edge.graph.layers import Dim, Layer, LayerGraph, Tensor
from dtp_edge.profiles.profile import Fusion, Memory

__all__ = ["PLANNERS", "Planner", "RuntimePlan", "planner_of"]

Placement = Callable[[Sequence[tuple[int, int, int]]], int]  # (bytes, first step, last step) each -> arena


@dataclass(frozen=True)
class Planner:
    """One runtime's memory plan.

    `place` lays tensors out in the arena; `keeps_inputs`: nothing writes over the graph's inputs. `split`:
    activations that it runs as an operator and a product with their input. `pads_same`: convolutions and
    pools pad as TensorFlow's SAME, and anything else by a copy. `pool_indices`: a max pool writes where each
    largest value was, too. `copied`: operators before which an input of the graph is copied into other shape.
    """

    runtime: str
    fusion: Fusion
    align: int
    place: Placement
    in_place: bool = False
    keeps_inputs: bool = False
    split: Mapping[str, str] = field(default_factory=dict)
    pads_same: bool = False
    pool_indices: bool = False
    squeeze_copies: bool = False
    copied: tuple[str, ...] = ()

    def plan(self, layers: LayerGraph, precision: str, builder: TermBuilder) -> MemoryPlan:
        """Return the lifetimes of what the runtime holds, as targets of a builder."""
        graph = self.steps(layers)
        lowered, gates = lower(graph, self.fusion), Gates(graph)
        memory = Memory(in_place=self.in_place)
        return MemoryPlan(graph, lowered, memory, precision, builder, gates, keeps_inputs=self.keeps_inputs)

    def steps(self, graph: LayerGraph) -> LayerGraph:
        """Return the graph in the steps that the runtime runs."""
        layers: list[Layer] = []
        tensors = dict(graph.tensors)
        for layer in graph.layers:
            for step, made in self._steps(layer, graph):
                layers.append(step)
                tensors |= {tensor.name: tensor for tensor in made}
        return replace(graph, layers=tuple(layers), tensors=tensors)

    def _steps(self, layer: Layer, graph: LayerGraph) -> Iterator[tuple[Layer, tuple[Tensor, ...]]]:
        op, x = op_name(layer), layer.inputs[0] if layer.inputs else ""
        if op in self.split:
            part = replace(graph.tensors[layer.outputs[0]], name=f"{layer.name}:{self.split[op]}")
            yield replace(layer, name=part.name, op=self.split[op], outputs=(part.name,)), (part,)
            yield replace(layer, op="mul", inputs=(x, part.name), attributes={}), ()
        elif self.pads_same and (padded := _padded(layer, graph)) is not None:
            yield replace(layer, name=padded.name, op="pad", inputs=(x,), outputs=(padded.name,)), (padded,)
            yield replace(layer, inputs=(padded.name, *layer.inputs[1:])), ()
        elif self.pool_indices and op.startswith("max_pool"):
            where = replace(graph.tensors[layer.outputs[0]], name=f"{layer.name}:indices", dtype="int64")
            yield replace(layer, outputs=(*layer.outputs, where.name)), (where,)
        elif x in graph.inputs and op in self.copied:
            turned = replace(graph.tensors[x], name=f"{layer.name}:turned", role="activation")
            copy = replace(layer, name=turned.name, op="reshaped", inputs=(x,), outputs=(turned.name,))
            yield copy, (turned,)
            yield replace(layer, inputs=(turned.name, *layer.inputs[1:])), ()
        elif self.squeeze_copies and op in ("squeeze", "unsqueeze"):
            yield replace(layer, op=f"{op}_copy", attributes={}), ()
        elif takes_all(layer, graph):
            yield replace(layer, op="view"), ()  # it takes everything: exporters drop it
        else:
            yield layer, ()


class RuntimePlan:
    """The arena that a runtime plans for a network at any integer sizes."""

    def __init__(self, layers: LayerGraph, planner: Planner, precision: str) -> None:
        builder = TermBuilder()
        self.planner, self._layers, self._precision = planner, layers, precision
        self._plan = planner.plan(layers, precision, builder)
        self._terms = builder.build()

    def arena_bytes(self, sizes: np.ndarray) -> int:
        """Return the bytes of the whole plan, gaps and alignment included."""
        if closed := self._layers.closed(sizes):
            return RuntimePlan(self._layers.without(closed), self.planner, self._precision).arena_bytes(sizes)
        values = self._terms.values(self._terms.slots(np.asarray(sizes, dtype=np.float64)))
        found = [(_up(size, self.planner.align), a, b) for size, a, b in self._plan.tensors(values) if size]
        return self.planner.place(found)


def planner_of(runtime: str) -> Planner:
    """Return the planner of a runtime. Raises `InputError` for one whose plan nobody knows."""
    if runtime not in PLANNERS:
        raise InputError(
            f"how {runtime} plans its memory is not known",
            where="--ram-by",
            hint=f"One of {', '.join(PLANNERS)}.",
        )
    return PLANNERS[runtime]


def _padded(layer: Layer, graph: LayerGraph) -> Tensor | None:
    """Return the padded copy of what a convolution or pool reads, None where SAME or VALID says it."""
    a = layer.attributes
    if not {"kernel_size", "padding"} <= set(a) or a.get("transposed"):
        return None
    x = graph.tensors[layer.inputs[0]]
    places = len(x.shape) - 2
    if isinstance(a["padding"], str) or places < 1:
        return None
    kernel, pad, dilation = (
        _each(a.get(k, d), places) for k, d in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
    )
    stride = _each(a.get("stride") or kernel, places)
    if not any(pad) or all(
        _same(d.size, k, s, t) == (p, p)
        for d, k, s, t, p in zip(x.shape[2:], kernel, stride, dilation, pad, strict=True)
    ):
        return None
    shape = (*x.shape[:2], *(Dim(d.size + 2 * p) for d, p in zip(x.shape[2:], pad, strict=True)))
    return replace(x, name=f"{layer.name}:padded", shape=shape, role="activation")


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return what TensorFlow's SAME pads before and after."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _each(value: object, places: int) -> tuple[int, ...]:
    given = as_tuple(value)
    return given if len(given) == places else given[:1] * places


def _up(size: float, align: int) -> int:
    return -(-round(size) // align) * align


def buckets(tensors: Sequence[tuple[int, int, int]]) -> int:
    """ExecuTorch's `greedy`: the largest first (of equal ones the last), each into the first bucket that is
    free or has room behind what is alive there; the arena is all buckets one after the other."""
    found: list[tuple[int, list[tuple[int, int, int, int]]]] = []  # size, (offset, bytes, first, last)
    for size, first, last in sorted(tensors, key=lambda t: t[0])[::-1]:
        alive = [[(o, s) for o, s, a, b in held if a <= last and first <= b] for _, held in found]
        ends = [max((o + s for o, s in parts), default=0) for parts in alive]
        free = [i for i, parts in enumerate(alive) if not parts]
        room = [i for i, end in enumerate(ends) if end + size <= found[i][0]]
        if not (free or room):
            found.append((size, [(0, size, first, last)]))
            continue
        place = (free or room)[0]
        found[place][1].append((ends[place], size, first, last))
    return sum(size for size, _ in found)


def gaps(tensors: Sequence[tuple[int, int, int]]) -> int:
    """TensorFlow Lite's arena: what lives throughout first, then the largest, each into the tightest gap."""
    whole = max((last for _, _, last in tensors), default=0)
    order = sorted(tensors, key=lambda t: (not (t[1] == 0 and t[2] == whole), -t[0], t[1]))
    placed: list[tuple[int, int, int, int]] = []  # offset, bytes, first, last
    for size, first, last in order:
        best, leftover, end = None, None, 0
        for offset, held, a, b in sorted(placed):
            if b < first or last < a:
                continue
            if offset - end >= size and (leftover is None or offset - end < leftover):
                best, leftover = end, offset - end
            end = max(end, offset + held)
        placed.append((end if best is None else best, size, first, last))
    return max((offset + size for offset, size, _, _ in placed), default=0)


_TFLITE_FUSED = ("relu", "relu6", "hardtanh")
PLANNERS = {
    planner.runtime: planner
    for planner in (
        Planner(
            "executorch",  # portable kernels write every output anew; linear layers stay whole
            Fusion(norm=True),
            16,
            buckets,
            split={"silu": "sigmoid", "hardswish": "hardsigmoid"},
            pool_indices=True,
            squeeze_copies=True,
            copied=("conv1d",),  # lines become pictures: `runtimes.rewrites.lines_as_pictures`
        ),
        Planner(
            "litert",  # reference kernels; graph inputs are kept
            Fusion(norm=True, activations=_TFLITE_FUSED, elementwise_activations=True),
            64,
            gaps,
            in_place=True,
            keeps_inputs=True,
            copied=("conv1d", "view", "reshape", "unsqueeze"),
            split={"silu": "sigmoid"},
            pads_same=True,
        ),
    )
}
