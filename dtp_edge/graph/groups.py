"""From solved equations to groups: which atoms one decision ranges over, their names and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dtp_edge.graph.network import Frozen, Group
from dtp_edge.ops.labels import Rows, tidy
from dtp_edge.ops.refusal import Code, Refusal
from dtp_edge.ops.values import Context, Value

TIED = Refusal(Code.TIED, "", "its channels can only be removed all together")
MADE_BY_NOBODY = Refusal(Code.CONSTANT, "", "it is a table of constants: no layer produces its channels")


@dataclass
class Numbering:
    """The atoms that can go, numbered group by group; `number[leaf]` is -1 for what stays."""

    groups: list[Group]
    frozen: list[Frozen]
    number: np.ndarray
    resolved: dict[int, Rows | None]

    def __call__(self, rows: Rows | None) -> Rows | None:
        """Return the final labels of a dimension, None if nothing in it can go."""
        return None if not isinstance(rows, np.ndarray) else self.resolved[id(rows)]


def number_atoms(
    ctx: Context, parameters: Mapping[str, Value], arrays: Sequence[Rows], exclude: Sequence[str]
) -> Numbering:
    """Partition the leaves into groups and number them.

    `arrays` are all label arrays in use. A group is a set of leaves made by the same layers; it is split
    where a tensor holds only some of them, so that one atom kept in every group leaves no tensor empty.
    """
    for name, value in parameters.items():
        if any(name == e or name.startswith(e + ".") for e in exclude):
            ctx.freeze_value(value, "excluded by the user", Code.EXCLUDED)
    table = ctx.atoms.leaves()
    leaves = expand_all(table, arrays)
    why, reasons = ctx.atoms.frozen(table)
    members = _members(parameters, leaves)
    owned = np.zeros(len(table), dtype=bool)
    for rows in {id(r): r for r in members.values()}.values():
        owned[rows] = True
    owned = owned[:-1]  # the last entry is what -1 addresses
    part = _partition(ctx, table, leaves, owned & (why < 0))
    groups, number = _number(ctx, table, part, members, leaves)
    frozen = _frozen(ctx, table, why, reasons, owned)
    tied = [g for g in groups if g.stop - g.start < 2 or g.kind == "constants"]
    if tied:  # one atom alone can never go
        frozen += [Frozen(g.name, MADE_BY_NOBODY if g.kind == "constants" else TIED) for g in tied]
        alone = np.isin(part, [part[number[:-1] == g.start][0] for g in tied])
        part[alone] = -1
        groups, number = _number(ctx, table, part, members, leaves)
    return Numbering(groups, _distinct(frozen), number, _final(leaves, number))


def expand_all(table: Rows, arrays: Sequence[Rows]) -> dict[int, Rows]:
    """Return the leaves of every label array, by the array's id; arrays of equal leaves get the same one.

    `table` holds the leaves of every atom.
    """
    found: dict[int, Rows] = {}
    same: dict[tuple[int, bytes], Rows] = {}
    by_depth: dict[int, list[Rows]] = {}
    for rows in {id(a): a for a in arrays}.values():
        by_depth.setdefault(rows.shape[1], []).append(rows)
    for depth, equal in by_depth.items():
        atoms = np.concatenate(equal)
        wide = tidy(np.concatenate([table[atoms[:, k]] for k in range(depth)], axis=1))
        start = 0
        for rows in equal:
            part = wide[start : start + len(rows)]
            start += len(rows)
            found[id(rows)] = same.setdefault((wide.shape[1], part.tobytes()), part)
    return found


def _members(parameters: Mapping[str, Value], leaves: dict[int, Rows]) -> dict[tuple[str, int], Rows]:
    return {
        (name, dim): leaves[id(rows)]
        for name, value in parameters.items()
        for dim, rows in enumerate(value.labels)
        if isinstance(rows, np.ndarray)
    }


def _partition(ctx: Context, table: Rows, leaves: dict[int, Rows], free: np.ndarray) -> np.ndarray:
    """Return the class of every atom, -1 for those that are no free leaf."""
    count, n = ctx.atoms.count, len(ctx.origins) + 1
    origins = ctx.atoms.origins(np.arange(count)).astype(np.int64)
    signature = np.zeros(count, dtype=np.uint64)
    random = np.random.default_rng(0).integers(1, 2**63, size=n, dtype=np.uint64)
    for k in range(table.shape[1]):
        hit = np.flatnonzero(table[:-1, k] >= 0)
        pairs = np.sort(table[hit, k].astype(np.int64) * n + origins[hit])
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]
        np.add.at(signature, pairs // n, random[pairs % n])
    part = np.full(count, -1, dtype=np.int64)
    chosen = np.flatnonzero(free)
    if len(chosen):
        part[chosen] = np.unique(signature[chosen], return_inverse=True)[1].reshape(-1)
    seen: set[bytes] = set()
    sizes = np.bincount(part[part >= 0])
    for rows in {id(r): r for r in leaves.values()}.values():
        for k in range(rows.shape[1]):
            if len(rows) and rows[:, k].min() >= 0:
                inside = _distinct_atoms(rows[:, k], count)
                key = inside.tobytes()
                if key not in seen:
                    seen.add(key)
                    sizes = _split_if_partial(part, inside, sizes)
    return part


def _distinct_atoms(atoms: np.ndarray, count: int) -> np.ndarray:
    """Return the atoms, ascending, each once."""
    if (atoms[1:] > atoms[:-1]).all():
        return atoms
    held = np.zeros(count, dtype=bool)
    held[atoms] = True
    return np.flatnonzero(held).astype(atoms.dtype)


def _split_if_partial(part: np.ndarray, inside: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Split one class if no class lies wholly within a tensor's dimension; return the sizes of all."""
    within = part[inside]
    if within.min() < 0:
        return sizes  # something in it always stays
    counts = np.bincount(within, minlength=len(sizes))
    if ((counts == sizes) & (counts > 0)).any():
        return sizes
    part[inside[within == counts.argmax()]] = len(sizes)
    return np.bincount(part[part >= 0])


def _number(
    ctx: Context,
    table: Rows,
    part: np.ndarray,
    members: Mapping[tuple[str, int], Rows],
    leaves: Mapping[int, Rows],
) -> tuple[list[Group], np.ndarray]:
    number = np.full(len(part) + 1, -1, dtype=np.int32)  # one more: -1 addresses it
    chosen = np.flatnonzero(part >= 0)
    if not len(chosen):
        return [], number
    classes, first = np.unique(part[chosen], return_index=True)
    rank = np.empty(classes.max() + 1, dtype=np.int64)
    rank[classes[np.argsort(first)]] = np.arange(len(classes))
    order = chosen[np.lexsort((chosen, rank[part[chosen]]))]
    number[order] = np.arange(len(order))
    sizes = np.bincount(rank[part[chosen]])
    stops = np.cumsum(sizes)
    cut = _members_of_groups(members, number, sizes)
    heads = order[stops - sizes]  # the first leaf of each group
    roles, makers = _roles(ctx, heads, leaves), ctx.makers(heads, table)
    names: dict[str, int] = {}
    groups = []
    for index, (size, stop) in enumerate(zip(sizes.tolist(), stops.tolist(), strict=True)):
        name, kind, each = _describe(ctx, makers[index], roles[index])
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name} #{names[name]}"
        groups.append(Group(unique, kind, stop - size, stop, each, tuple(cut[index])))
    return groups, number


def _members_of_groups(
    members: Mapping[tuple[str, int], Rows], number: np.ndarray, sizes: np.ndarray
) -> list[list[tuple[str, int]]]:
    found: list[list[tuple[str, int]]] = [[] for _ in sizes]
    group = np.append(np.repeat(np.arange(len(sizes)), sizes), len(sizes))  # of -1: one that is no group
    touched: dict[int, list[int]] = {}
    for key, rows in members.items():
        if id(rows) not in touched:
            hit = np.zeros(len(sizes) + 1, dtype=bool)
            hit[group[number[rows]]] = True
            touched[id(rows)] = np.flatnonzero(hit[:-1]).tolist()
        for index in touched[id(rows)]:
            found[index].append(key)
    return found


def _describe(ctx: Context, made: Mapping[int, int], found: Mapping[str, str]) -> tuple[str, str, int]:
    """Return the name, the kind and the channels an atom of a group, by its first leaf's makers and roles."""
    makers = sorted(made)
    origins = [ctx.origins[i] for i in makers]
    if "heads" in found:
        return f"{found['heads']} heads", "heads", 1
    if found:
        which = " " + next(iter(found)) if len(found) == 1 else ""
        return f"{next(iter(found.values()))}{which} inner", "inner", 1
    producers = list(dict.fromkeys(_module_of(o.name) for o in origins if o.kind == "channels"))
    if all(o.kind == "constants" for o in origins):
        return origins[0].name, "constants", 1
    if not producers:
        return origins[0].module or origins[0].name, "channels", 1
    name = producers[0] if len(producers) == 1 else f"{_stream(producers)} stream"
    first = next(i for i in makers if ctx.origins[i].kind == "channels")
    whole = all(o.kind in ("channels", "padding") for o in origins)
    return name, "channels", made[first] * ctx.origins[first].repeat if whole else 1


def _roles(ctx: Context, heads: np.ndarray, leaves: Mapping[int, Rows]) -> list[dict[str, str]]:
    """Return, for the first leaf of each group, its roles in attention and the module of each."""
    found: list[dict[str, str]] = [{} for _ in heads]
    for rows, role, module in ctx.roles:
        held = np.zeros(ctx.atoms.count + 1, dtype=bool)
        held[leaves[id(rows)]] = True
        for index in np.flatnonzero(held[heads]).tolist():
            found[index].setdefault(role, module)
    return found


def _module_of(parameter: str) -> str:
    """Return the layer that holds a parameter, also where torch's parametrizations stand between."""
    layer, between, _ = parameter.partition(".parametrizations.")
    return layer if between else parameter.rpartition(".")[0] or parameter


def _stream(producers: list[str]) -> str:
    """Return the deepest path that as many producers as possible share, the last producer's if none do."""
    counts: dict[str, int] = {}
    for name in producers:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            counts[path] = counts.get(path, 0) + 1
    common = [path for path, count in counts.items() if count > 1]
    return max(common, key=lambda path: (counts[path], path.count(".")), default=producers[-1])


def _frozen(
    ctx: Context, table: Rows, why: np.ndarray, reasons: list[Refusal], owned: np.ndarray
) -> list[Frozen]:
    """Name every part that stays, once, by the layer that makes it."""
    origins = ctx.atoms.origins(np.arange(ctx.atoms.count))
    layers = np.array([made.kind == "channels" for made in ctx.origins], dtype=bool)
    made_by_layer = np.zeros(len(table), dtype=bool)
    made_by_layer[table[:-1][layers[origins]]] = True
    kept = np.flatnonzero((why >= 0) & owned & made_by_layer[:-1])
    if not len(kept):
        return []
    keys = np.unique(ctx.atoms.origins(kept).astype(np.int64) * len(reasons) + why[kept])
    sizes = np.bincount(origins, minlength=len(ctx.origins))
    found = []
    for key in keys.tolist():
        origin, reason = divmod(key, len(reasons))
        made = ctx.origins[origin]
        if made.kind == "constants" or sizes[origin] < 2 or reasons[reason].code == Code.KERNEL:
            continue  # nothing there could go anyway
        if made.kind == "channels":
            found.append(Frozen(_module_of(made.name), reasons[reason]))
        elif reasons[reason].code != Code.APART:  # the q, k, v axis of a fused projection
            found.append(Frozen(f"{made.module or made.name} {made.kind}", reasons[reason]))
    return found


def _distinct(frozen: list[Frozen]) -> list[Frozen]:
    return list(dict.fromkeys(frozen))


def _final(leaves: Mapping[int, Rows], number: np.ndarray) -> dict[int, Rows | None]:
    """Return the numbered atoms of every label array, None if nothing in it can go, by the array's id."""
    done: dict[int, Rows | None] = {}
    for rows in leaves.values():
        if id(rows) not in done:
            atoms = tidy(number[rows])
            prunable = atoms.max(initial=-1) >= 0
            done[id(rows)] = np.ascontiguousarray(atoms, dtype=np.int32) if prunable else None
    return {key: done[id(rows)] for key, rows in leaves.items()}
