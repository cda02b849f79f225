"""Which kernel of a network each row of a profile is: by name, by the names of fused layers, else by order.

By order only where it is certain: as many rows of one kind as kernels of it are left, or each row's
multiply-accumulates are those of a kernel. What cannot be joined is kept, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtp_edge.cost.kernels import Kernel, Lowered, fuses_as, lower, op_name
from dtp_edge.cost.work import products
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout import PrintedRow, Printout
from dtp_edge.measure.printout_kinds import activates_as, by_name, kind_of, onnx_names, spelt
from dtp_edge.profiles.profile import Fusion

_MACS_ALIKE = 0.15
_HEAVY = ("conv", "linear")


@dataclass(frozen=True)
class Loose:
    """A row that no kernel was found for: its time in ms, its share of the profile's, and why."""

    row: PrintedRow
    ms: float
    share: float
    why: str


@dataclass(frozen=True)
class Joined:
    """`ms` of each kernel that rows were found for, by its number in `lowered`; `latency_ms` of a whole call.

    `by` counts rows joined by "name" and by "order".
    """

    printout: Printout
    model: str
    layers: LayerGraph
    lowered: Lowered
    ms: dict[int, float]
    loose: tuple[Loose, ...]
    by: Mapping[str, int]

    @property
    def total_ms(self) -> float:
        return sum(self.ms.values()) + sum(row.ms for row in self.loose)

    @property
    def latency_ms(self) -> float:
        return self.printout.latency_ms or self.total_ms

    @property
    def loose_share(self) -> float:
        return sum(row.share for row in self.loose)


@dataclass
class _Work:
    kernels: list[Kernel]
    ms: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    by: dict[str, int] = field(default_factory=lambda: {"name": 0, "order": 0})
    loose: list[tuple[PrintedRow, float, str]] = field(default_factory=list)


def fusion_of(printouts: Sequence[Printout], networks: Sequence[LayerGraph]) -> Fusion:
    """Return what the runtime folds into the kernel before: what the networks have and few rows show."""
    rows = [row for printout in printouts for row in printout.rows]
    plain = [low for graph in networks for low in lower(graph, Fusion(norm=True)).kernels]
    activations = sorted({k.op for k in plain if fuses_as(k.op) == "activation"})
    own = [row for row in rows if kind_of(row.type) == "activation"]
    folded = [
        op
        for op in activations
        if sum(activates_as(row.type, op) for row in own) < sum(k.op == op for k in plain) / 2
    ]
    adds = sum(k.op == "add" for k in plain)
    shown = sum(kind_of(row.type) == "binary" for row in rows)
    others = sum(kind_of(k.op) == "binary" and k.op != "add" for k in plain)
    return Fusion(
        norm=True,
        activations=tuple(folded),
        add=shown - others < adds / 2,
        elementwise_activations=bool(folded),
    )


def join(printout: Printout, model: str, layers: LayerGraph, fusion: Fusion, unit_ms: float) -> Joined:
    """Join a profile to the network that it is of; `model` names it, and its file if that is ONNX.

    `unit_ms` is what one unit of the profile's times is in milliseconds. Raises `InputError`.
    """
    lowered = lower(layers, fusion)
    work = _Work(lowered.kernels)
    named = {layer.name: {layer.name} for layer in layers.layers}
    if model.endswith(".onnx"):
        named |= onnx_names(
            Path(model), [x for x in layers.layers if x.name not in lowered.free or _stays(x)]
        )
    rows = _join_names(printout, work, by_name(named), unit_ms)
    _join_order(rows, work, layers, unit_ms)
    _to_heaviest(work, layers, lowered.views)
    total = sum(row.time for row in printout.rows) * unit_ms
    loose = tuple(Loose(row, ms, ms / total, why) for row, ms, why in work.loose)
    return Joined(printout, model, layers, lowered, dict(work.ms), loose, work.by)


def _stays(layer: object) -> bool:
    """A layer that costs nothing is a node of the file all the same."""
    return kind_of(op_name(layer)) != "other"  # type: ignore[arg-type]


def _join_names(
    printout: Printout, work: _Work, names: Mapping[str, str], unit_ms: float
) -> list[PrintedRow]:
    """Join rows by name; return those that are left."""
    home = {layer.name: index for index, kernel in enumerate(work.kernels) for layer in kernel.layers}
    left = []
    for row in printout.rows:
        found = [home[names[spelt(n)]] for n in row.names if spelt(n) in names and names[spelt(n)] in home]
        if not found:
            left.append(row)
            continue
        heavy = [i for i in found if kind_of(work.kernels[i].op) in _HEAVY]
        work.ms[(heavy or found)[0]] += row.time * unit_ms
        work.by["name"] += 1
    return left


def _to_heaviest(work: _Work, layers: LayerGraph, views: Mapping[str, str]) -> None:
    """Give the time of a row that is named after its last layer to the heaviest that it runs: the kernels
    before it that have no row are inside (attention's products, in a row that is called a transpose)."""
    maker = {name: i for i, kernel in enumerate(work.kernels) for name in kernel.outputs}

    def made_by(name: str) -> int | None:
        while name not in maker and name in views:
            name = views[name]
        return maker.get(name)

    macs = [_macs(kernel, layers) for kernel in work.kernels]
    for index in [i for i in work.ms if not macs[i]]:
        inside, seen = [index], set[int]()
        while inside:
            seen.add(at := inside.pop())
            before = {made_by(name) for name in work.kernels[at].inputs}
            inside += [i for i in before if i is not None and i not in work.ms and i not in seen]
        heaviest = max(seen, key=lambda i: macs[i])
        if macs[heaviest]:
            work.ms[heaviest] += work.ms.pop(index)


def _join_order(rows: Sequence[PrintedRow], work: _Work, layers: LayerGraph, unit_ms: float) -> None:
    """Join what is left, kind by kind, in running order."""
    by_kind: dict[str, list[PrintedRow]] = defaultdict(list)
    for row in rows:
        by_kind[row_kind(row)].append(row)
    for kind, found in by_kind.items():
        same = [i for i, k in enumerate(work.kernels) if kind_of(k.op) == kind]
        free = [i for i in same if i not in work.ms]
        if kind not in _HEAVY and len(found) == len(same):  # two rows a kernel: one has its name, one none
            free = same
        pairs = _pairs(found, free, [_macs(work.kernels[i], layers) for i in free])
        for row in found:
            index = pairs.get(id(row))
            if index is None:
                why = f"{len(found)} rows of kind {kind} are left, and {len(free)} such layers of the network"
                work.loose.append((row, row.time * unit_ms, why))
            else:
                work.ms[index] += row.time * unit_ms
                work.by["order"] += 1


def row_kind(row: PrintedRow) -> str:
    kind = kind_of(row.type)
    return kind if kind != "other" else next((k for n in row.names if (k := kind_of(n)) != "other"), kind)


def _pairs(rows: Sequence[PrintedRow], free: Sequence[int], macs: Sequence[float]) -> dict[int, int]:
    """Return {id of row: kernel}."""
    counted = [row.macs for row in rows]
    known = all(counted) and all(macs)
    if len(rows) == len(free) and (not known or _alike(counted, macs)):
        return {id(row): index for row, index in zip(rows, free, strict=True)}
    return _by_macs(rows, free, macs) if known else {}


def _alike(counted: Sequence[float | None], macs: Sequence[float]) -> bool:
    """Tools count biases and activations too, which is more beside few channels."""
    return all(
        abs((count or 0.0) / own - 1.0) < _MACS_ALIKE for count, own in zip(counted, macs, strict=True)
    )


def _by_macs(rows: Sequence[PrintedRow], free: Sequence[int], macs: Sequence[float]) -> dict[int, int]:
    """Return the longest common subsequence of rows and kernels with equal multiply-accumulates."""
    n, m = len(rows), len(free)
    best = [[0] * (m + 1) for _ in range(n + 1)]
    same = [[abs((row.macs or 0.0) / count - 1.0) < _MACS_ALIKE for count in macs] for row in rows]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            skip = max(best[i + 1][j], best[i][j + 1])
            best[i][j] = max(skip, best[i + 1][j + 1] + 1) if same[i][j] else skip
    found, i, j = {}, 0, 0
    while i < n and j < m:
        if same[i][j] and best[i][j] == best[i + 1][j + 1] + 1:
            found[id(rows[i])] = free[j]
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _macs(kernel: Kernel, layers: LayerGraph) -> float:
    total = 0.0
    for product in products(kernel, layers):
        value = 1.0
        for dim, _ in product:
            value *= dim.size
        total += value
    return total
