"""Which kernel of a network each row of a profile is: by name, by the names of fused layers, else by order.

By order only where it is certain: as many rows of one kind as kernels of it are left, or each row's
multiply-accumulates are those of a kernel. Then by place, between two that are joined (`printout_place`).
What cannot be joined is kept, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtp_edge.cost.kernels import Kernel, Lowered, lower, op_name
from dtp_edge.cost.work import products
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout import PrintedRow, Printout
from dtp_edge.measure.printout_kinds import OPERATORS, by_name, kind_of, names_operator, onnx_names, spelt
from dtp_edge.measure.printout_place import places_of
from dtp_edge.profiles.profile import Fusion

_MACS_ALIKE = 0.15
_HEAVY = ("conv", "linear")
_MANY = ("activation", "binary")  # kinds of several operators, which rows may name


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

    `by` counts rows joined by "name", by "order" and by "place".
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
    """`home` is the kernel of each row by its id, `loose` are rows without one, with the reason."""

    kernels: list[Kernel]
    unit_ms: float
    ms: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    by: dict[str, int] = field(default_factory=lambda: {"name": 0, "order": 0, "place": 0})
    home: dict[int, int] = field(default_factory=dict)
    loose: list[tuple[PrintedRow, str]] = field(default_factory=list)

    def give(self, row: PrintedRow, index: int, how: str) -> None:
        self.ms[index] += row.time * self.unit_ms
        self.by[how] += 1
        self.home[id(row)] = index


def join(printout: Printout, model: str, layers: LayerGraph, fusion: Fusion, unit_ms: float) -> Joined:
    """Join a profile to the network that it is of; `model` names it, and its file if that is ONNX.

    `unit_ms` is what one unit of the profile's times is in milliseconds. Raises `InputError`.
    """
    lowered = lower(layers, fusion)
    work = _Work(lowered.kernels, unit_ms)
    named = {layer.name: {layer.name} for layer in layers.layers}
    if model.endswith(".onnx"):
        named |= onnx_names(
            Path(model), [x for x in layers.layers if x.name not in lowered.free or _stays(x)]
        )
    rows = _join_names(printout, work, by_name(named))
    _join_order(rows, work, layers)
    _to_heaviest(work, layers, lowered.views)
    _join_places(printout, work, layers)
    total = sum(row.time for row in printout.rows)
    loose = tuple(Loose(row, row.time * unit_ms, row.time / total, why) for row, why in work.loose)
    return Joined(printout, model, layers, lowered, dict(work.ms), loose, work.by)


def _stays(layer: object) -> bool:
    """A layer that costs nothing is a node of the file all the same."""
    return kind_of(op_name(layer)) != "other"  # type: ignore[arg-type]


def _join_names(printout: Printout, work: _Work, names: Mapping[str, str]) -> list[PrintedRow]:
    """Join rows by name; return those that are left."""
    home = {layer.name: index for index, kernel in enumerate(work.kernels) for layer in kernel.layers}
    left = []
    for row in printout.rows:
        found = [home[names[spelt(n)]] for n in row.names if spelt(n) in names and names[spelt(n)] in home]
        if not found:
            left.append(row)
            continue
        heavy = [i for i in found if kind_of(work.kernels[i].op) in _HEAVY]
        work.give(row, (heavy or found)[0], "name")
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


def _join_order(rows: Sequence[PrintedRow], work: _Work, layers: LayerGraph) -> None:
    """Join what is left, kind by kind, in running order; activations and sums operator by operator."""
    by_kind: dict[str, list[PrintedRow]] = defaultdict(list)
    for row in _without_products(rows, work, layers):
        by_kind[row_kind(row)].append(row)
    for kind, found in by_kind.items():
        same = [i for i, k in enumerate(work.kernels) if kind_of(k.op) == kind]
        for mine, some in _by_operator(found, same, work) if kind in _MANY else [(found, same)]:
            free = [i for i in some if i not in work.ms]
            if kind not in _HEAVY and len(mine) == len(some):  # two rows a kernel: one has its name, one none
                free = some
            pairs = _pairs(mine, free, _all_macs(work, free, layers))
            why = f"{len(mine)} rows of kind {kind} are left, and {len(free)} such layers of the network"
            for row in mine:
                if id(row) in pairs:
                    work.give(row, pairs[id(row)], "order")
                else:
                    work.loose.append((row, why))


def _join_places(printout: Printout, work: _Work, layers: LayerGraph) -> None:
    """Join rows that are left by where they stand, see `printout_place`."""
    free = {i for i, k in enumerate(work.kernels) if i not in work.ms and kind_of(k.op) not in _HEAVY}
    loose = {id(row) for row, _ in work.loose if row_kind(row) not in _HEAVY}
    moved = {i: _values(work.kernels[i], layers) for i in free}
    shares = places_of(printout, work.home, loose, moved, len(work.kernels)) if printout.ordered else {}
    for row, _ in work.loose:
        for index, share in shares.get(id(row), {}).items():
            work.ms[index] += share * row.time * work.unit_ms
    work.by["place"] += len(shares)
    work.loose = [pair for pair in work.loose if id(pair[0]) not in shares]


def _by_operator(
    rows: Sequence[PrintedRow], same: Sequence[int], work: _Work
) -> list[tuple[list[PrintedRow], list[int]]]:
    """Return activations' or sums' rows and kernels, those of one operator together; rows that name none
    ("Activation", "Eltwise") with the kernels that no row names. Rows that name another operator, a part of
    what is spelled out, have no kernels."""
    left, unnamed, found = list(rows), list[int](), []
    for op in dict.fromkeys(work.kernels[i].op for i in same):
        mine = [row for row in left if names_operator(row.type, op)]
        left = [row for row in left if not names_operator(row.type, op)]
        kernels = [i for i in same if work.kernels[i].op == op]
        if mine:
            found.append((mine, kernels))
        else:
            unnamed += kernels
    plain, parts = list[PrintedRow](), list[PrintedRow]()
    for row in left:
        (parts if any(names_operator(row.type, op) for op in OPERATORS) else plain).append(row)
    return [*found, (plain, sorted(unnamed)), (parts, [])]


def _without_products(rows: Sequence[PrintedRow], work: _Work, layers: LayerGraph) -> Sequence[PrintedRow]:
    """Join convolutions and products together where a runtime runs 1x1 convolutions as products (XNNPACK);
    return the other rows, all of them where the two do not go one by one."""
    heavy = [row for row in rows if row_kind(row) in _HEAVY]
    free = [i for i, k in enumerate(work.kernels) if i not in work.ms and kind_of(k.op) in _HEAVY]
    kinds = [(row_kind(row), work.kernels[i]) for row, i in zip(heavy, free, strict=False)]
    fits = all(kind == kind_of(k.op) or (kind == "linear" and k.family == "conv1x1") for kind, k in kinds)
    counted = [row.macs for row in heavy]
    if (
        len(heavy) != len(free)
        or not fits
        or (all(counted) and not _alike(counted, _all_macs(work, free, layers)))
    ):
        return rows
    for row, index in zip(heavy, free, strict=True):
        work.give(row, index, "order")
    return [row for row in rows if row_kind(row) not in _HEAVY]


def _all_macs(work: _Work, places: Sequence[int], layers: LayerGraph) -> list[float]:
    return [_macs(work.kernels[i], layers) for i in places]


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


def _values(kernel: Kernel, layers: LayerGraph) -> float:
    """What a kernel reads and writes, in values."""
    return float(sum(layers.tensors[name].dense_values for name in (*kernel.inputs, *kernel.outputs)))


def _macs(kernel: Kernel, layers: LayerGraph) -> float:
    total = 0.0
    for product in products(kernel, layers):
        value = 1.0
        for dim, _ in product:
            value *= dim.size
        total += value
    return total
