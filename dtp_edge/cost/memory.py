"""RAM as the peak of live activations over the schedule; flash as the bytes of the file.

A tensor lives from the kernel that writes it to the last kernel that reads it; network inputs live from
the start, outputs to the end. A view shares its source's storage. Where the profile's runtime writes in
place, an elementwise kernel reuses an input of equal shape that nobody reads later. While a kernel runs,
its inputs and its output are all live. The runtime's own fixed arena comes on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.gate_factors import Gates, factors
from dtp_edge.cost.kernels import Lowered
from dtp_edge.cost.terms import TermBuilder, numel
from dtp_edge.graph.layers import LayerGraph, Tensor
from dtp_edge.profiles.profile import Memory, Profile

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "w8a8": 1, "w8a16": 2}
_WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "w8a8": 1, "w8a16": 1}
_DTYPE_BYTES = {"float64": 8, "int64": 8, "int32": 4, "int16": 2, "uint8": 1, "int8": 1, "bool": 1}
_BIAS_BYTES = 4  # int32 at int8 precision


def activation_bytes(tensor: Tensor, precision: str) -> int:
    """Return the bytes of one element of an activation at a precision."""
    return _DTYPE_BYTES.get(tensor.dtype, _BYTES[precision])


def weight_bytes(tensor: Tensor, precision: str) -> int:
    """Return the bytes of one element of a weight: int8 for matrices, 32 bit for biases and scales."""
    if tensor.dtype in _DTYPE_BYTES:
        return _DTYPE_BYTES[tensor.dtype]
    if _WEIGHT_BYTES[precision] == 1 and not _is_matrix(tensor):
        return _BIAS_BYTES
    return _WEIGHT_BYTES[precision]


def _is_matrix(tensor: Tensor) -> bool:
    """Tell a matrix or kernel ([n, 1, 1, 1] too) from a bias or scale ([C], [C, 1, 1], [1, C, 1, 1])."""
    wide = [d.size > 1 or d.width is not None for d in tensor.shape]
    return sum(wide) > 1 or len(wide) == 2 or (len(wide) >= 4 and wide[0])


@dataclass
class Storage:
    """What holds a tensor from kernel `start` to kernel `end`; with a `gate`, as far as that is open.

    The sum of an addition takes room of its own only while the addition runs behind an open gate; afterwards
    it is there in any case, as the sum or as what stays of it: two entries.
    """

    tensor: str
    start: int
    end: int
    gate: int | None = None


class MemoryPlan:
    """Lifetimes of all storages, as targets of a `TermBuilder`; `keeps_inputs`: nothing writes over those."""

    def __init__(
        self,
        graph: LayerGraph,
        lowered: Lowered,
        memory: Memory,
        precision: str,
        builder: TermBuilder,
        gates: Gates,
        *,
        keeps_inputs: bool = False,
    ) -> None:
        self.names = [k.name for k in lowered.kernels] or ["(empty)"]
        self.storages = _storages(graph, lowered, memory.in_place, keeps_inputs, gates)
        self.first = builder.new_targets(len(self.storages))
        for index, storage in enumerate(self.storages):
            tensor = graph.tensors[storage.tensor]
            size = [*numel(tensor.shape), *factors(storage.gate)]
            builder.add(self.first + index, activation_bytes(tensor, precision), size)
        self._start = np.array([s.start for s in self.storages], dtype=np.intp)
        self._stop = np.array([s.end + 1 for s in self.storages], dtype=np.intp)
        self.arena_bytes = memory.arena_bytes

    def tensors(self, values: np.ndarray) -> list[tuple[float, int, int]]:
        """Return (bytes, first kernel, last kernel) of every storage, from all target values."""
        size = values[self.first : self.first + len(self.storages)].tolist()
        return [(size, s.start, s.end) for size, s in zip(size, self.storages, strict=True)]

    def live(self, values: np.ndarray) -> np.ndarray:
        """Return live bytes while each kernel runs, `[n_kernels]`, from all target values."""
        size = values[self.first : self.first + len(self.storages)]
        n = len(self.names)
        change = np.bincount(self._start, size, minlength=n + 1) - np.bincount(
            self._stop, size, minlength=n + 1
        )
        return np.cumsum(change)[:n] + self.arena_bytes

    def upstream(self, values: np.ndarray) -> np.ndarray:
        """Return d peak / d targets: 1 for every storage that is live at the peak."""
        grad = np.zeros(len(values))
        peak = int(np.argmax(self.live(values)))
        grad[self.first : self.first + len(self.storages)] = (self._start <= peak) & (peak < self._stop)
        return grad


def _storages(
    graph: LayerGraph, lowered: Lowered, in_place: bool, keeps_inputs: bool, gates: Gates
) -> list[Storage]:
    def root(name: str) -> str:
        while name in lowered.views:
            name = lowered.views[name]
        return name

    last_kernel = max(len(lowered.kernels) - 1, 0)
    last_read: dict[str, int] = {}
    for index, kernel in enumerate(lowered.kernels):
        for name in kernel.inputs:
            last_read[root(name)] = index
    for name in (*graph.outputs, *(graph.inputs if keeps_inputs else ())):
        last_read[root(name)] = last_kernel
    owner: dict[str, Storage] = {}
    result: list[Storage] = []

    def new(name: str, start: int, behind: int | None) -> None:
        """Hold `name` from kernel `start` on, which runs behind a gate."""
        gate, end = gates.of_value(name), max(last_read.get(name, start), start)
        if gate != behind:
            result.append(Storage(name, start, start, behind))
            start += 1
        owner[name] = result[-1] if end < start else Storage(name, start, end, gate)
        if end >= start:
            result.append(owner[name])

    for name in dict.fromkeys(root(n) for n in graph.inputs):
        if name not in lowered.static:
            new(name, 0, None)
    for index, kernel in enumerate(lowered.kernels):
        for name in kernel.outputs:
            source = _reusable(graph, kernel.inputs, name, index, owner, root) if in_place else None
            last = max(last_read.get(name, index), index)
            if source is None or kernel.family != "elementwise":
                new(name, index, gates.of_kernel(kernel))
            elif source.gate == gates.of_value(name):
                source.end = last
                owner[name] = source
            elif last > index:
                owner[name] = Storage(name, index + 1, last, gates.of_value(name))
                result.append(owner[name])
    return result


def _reusable(
    graph: LayerGraph,
    inputs: list[str],
    output: str,
    index: int,
    owner: dict[str, Storage],
    root: Callable[[str], str],
) -> Storage | None:
    """Return the storage of an input that dies at kernel `index` and has the output's shape."""
    shape = graph.tensors[output].shape
    for name in inputs:
        storage = owner.get(root(name))
        outside = root(name) in graph.inputs
        if (
            storage is not None
            and storage.end == index
            and not outside
            and graph.tensors[name].shape == shape
        ):
            return storage
    return None


def add_flash(
    graph: LayerGraph,
    lowered: Lowered,
    profile: Profile,
    precision: str,
    builder: TermBuilder,
    gates: Gates,
) -> int:
    """Add the file's bytes as one target and return it: run-time weights once each, after folding norms."""
    target = builder.new_targets()
    builder.add_fixed(target, profile.memory.flash_overhead_bytes)
    seen: set[str] = set()
    for kernel in lowered.kernels:
        for name in kernel.weights:
            tensor = graph.tensors[name]
            if name not in seen and not (tensor.role == "buffer" and len(tensor.shape) == 0):
                seen.add(name)
                size = [*numel(tensor.shape), *factors(gates.of_weight(name))]
                builder.add(target, weight_bytes(tensor, precision), size)
        if kernel.new_bias and not _has_bias(graph, kernel.weights):
            channels = graph.tensors[kernel.outputs[0]].shape[1 if kernel.family != "linear" else -1]
            size = [(channels, 1), *factors(gates.of_kernel(kernel))]
            each = _BIAS_BYTES if precision in ("int8", "w8a8") else _BYTES[precision]
            builder.add(target, each, size)
    return target


def _has_bias(graph: LayerGraph, weights: list[str]) -> bool:
    return any(len(graph.tensors[name].shape) == 1 for name in weights)
