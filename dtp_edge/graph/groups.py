"""From solved equations to groups: which atoms one decision ranges over, their names and their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dtp_edge.graph.labels import Rows, tidy
from dtp_edge.graph.network import Frozen, Group
from dtp_edge.graph.values import Context, Value

TAKEN_APART = "the dimension is taken apart"


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
            ctx.freeze_value(value, "excluded by the user")
    leaves = expand_all(ctx, arrays)
    why, reasons = ctx.atoms.frozen()
    members = _members(ctx, parameters, leaves)
    owned = np.zeros(ctx.atoms.count, dtype=bool)
    for rows in members.values():
        owned[rows[rows >= 0]] = True
    part = _partition(ctx, leaves, owned & (why < 0))
    roles = _roles(ctx, leaves)
    groups, number = _number(ctx, part, members, roles)
    frozen = _frozen(ctx, why, reasons, owned)
    tied = [g for g in groups if g.stop - g.start < 2]
    if tied:  # one atom alone can never go
        frozen += [Frozen(g.name, "its channels could only go all together") for g in tied]
        alone = np.isin(part, [part[number[:-1] == g.start][0] for g in tied])
        part[alone] = -1
        groups, number = _number(ctx, part, members, roles)
    final = {key: _final(rows, number) for key, rows in leaves.items()}
    return Numbering(groups, _distinct(frozen), number, final)


def expand_all(ctx: Context, arrays: Sequence[Rows]) -> dict[int, Rows]:
    """Return the leaves of every label array, by the array's id, with one expansion for each depth."""
    found: dict[int, Rows] = {}
    by_depth: dict[int, list[Rows]] = {}
    for rows in {id(a): a for a in arrays}.values():
        by_depth.setdefault(rows.shape[1], []).append(rows)
    for same in by_depth.values():
        wide = ctx.atoms.expand(np.concatenate(same))
        stops = np.cumsum([len(rows) for rows in same])
        for rows, start, stop in zip(same, np.append(0, stops[:-1]), stops, strict=True):
            found[id(rows)] = wide[start:stop]
    return found


def _members(
    ctx: Context, parameters: Mapping[str, Value], leaves: dict[int, Rows]
) -> dict[tuple[str, int], Rows]:
    return {
        (name, dim): leaves[id(rows)]
        for name, value in parameters.items()
        for dim, rows in enumerate(value.labels)
        if isinstance(rows, np.ndarray)
    }


def _partition(ctx: Context, leaves: dict[int, Rows], free: np.ndarray) -> np.ndarray:
    """Return the class of every atom, -1 for those that are no free leaf."""
    count = ctx.atoms.count
    expanded = ctx.atoms.expand(np.arange(count, dtype=np.int32)[:, None])
    origins = ctx.atoms.origins(np.arange(count))
    signature = np.zeros(count, dtype=np.uint64)
    random = np.random.default_rng(0).integers(1, 2**63, size=len(ctx.origins) + 1, dtype=np.uint64)
    for k in range(expanded.shape[1]):
        hit = expanded[:, k] >= 0
        pairs = np.unique(expanded[hit, k].astype(np.int64) * (len(ctx.origins) + 1) + origins[hit])
        np.add.at(signature, pairs // (len(ctx.origins) + 1), random[pairs % (len(ctx.origins) + 1)])
    part = np.full(count, -1, dtype=np.int64)
    chosen = np.flatnonzero(free)
    if len(chosen):
        part[chosen] = np.unique(signature[chosen], return_inverse=True)[1].reshape(-1)
    seen: set[bytes] = set()
    for rows in leaves.values():
        for k in range(rows.shape[1]):
            inside = np.unique(rows[:, k])
            if (inside >= 0).all() and inside.tobytes() not in seen:
                seen.add(inside.tobytes())
                _split_if_partial(part, inside)
    return part


def _split_if_partial(part: np.ndarray, inside: np.ndarray) -> None:
    """Split one class if no class lies wholly within a tensor's dimension."""
    classes, counts = np.unique(part[inside], return_counts=True)
    if not len(classes) or classes[0] < 0:
        return  # something in it always stays
    sizes = np.bincount(part[part >= 0])
    if (counts == sizes[classes]).any():
        return
    largest = inside[part[inside] == classes[counts.argmax()]]
    part[largest] = len(sizes)


def _number(
    ctx: Context,
    part: np.ndarray,
    members: Mapping[tuple[str, int], Rows],
    roles: Mapping[int, dict[str, str]],
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
    cut = _members_of_groups(members, number, stops)
    names: dict[str, int] = {}
    groups = []
    for index, (size, stop) in enumerate(zip(sizes, stops, strict=True)):
        leaves = order[stop - size : stop]
        name, kind, each = _describe(ctx, leaves, roles)
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name} #{names[name]}"
        groups.append(Group(unique, kind, int(stop - size), int(stop), each, tuple(cut[index])))
    return groups, number


def _members_of_groups(
    members: Mapping[tuple[str, int], Rows], number: np.ndarray, stops: np.ndarray
) -> list[list[tuple[str, int]]]:
    found: list[list[tuple[str, int]]] = [[] for _ in stops]
    for key, rows in members.items():
        atoms = number[np.unique(rows)]
        for index in np.unique(np.searchsorted(stops, atoms[atoms >= 0], side="right")).tolist():
            found[index].append(key)
    return found


def _describe(ctx: Context, leaves: np.ndarray, roles: Mapping[int, dict[str, str]]) -> tuple[str, str, int]:
    """Return the name, the kind and the channels an atom of a group."""
    makers = ctx.makers(leaves[0])
    origins = [ctx.origins[i] for i in makers]
    found = roles.get(int(leaves[0]), {})
    if "heads" in found:
        return f"{found['heads']} heads", "heads", 1
    if found:
        which = " " + next(iter(found)) if len(found) == 1 else ""
        return f"{next(iter(found.values()))}{which} inner", "inner", 1
    producers = list(dict.fromkeys(_module_of(o.name) for o in origins if o.kind == "channels"))
    if not producers:
        return origins[0].module or origins[0].name, "channels", 1
    name = producers[0] if len(producers) == 1 else f"{_stream(producers)} stream"
    first = next(i for i in makers if ctx.origins[i].kind == "channels")
    whole = all(o.kind in ("channels", "padding") for o in origins)
    return name, "channels", ctx.channels_per_atom(leaves[0], first) if whole else 1


def _roles(ctx: Context, leaves: Mapping[int, Rows]) -> dict[int, dict[str, str]]:
    """Return, for every leaf that attention reads, its roles and the module of each."""
    found: dict[int, dict[str, str]] = {}
    for rows, role, module in ctx.roles:
        for leaf in np.unique(leaves[id(rows)]).tolist():
            if leaf >= 0:
                found.setdefault(leaf, {}).setdefault(role, module)
    return found


def _module_of(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


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


def _frozen(ctx: Context, why: np.ndarray, reasons: list[str], owned: np.ndarray) -> list[Frozen]:
    """Name every part that stays, once, by the layer that makes it."""
    kept = np.flatnonzero((why >= 0) & owned)
    if not len(kept):
        return []
    keys = np.unique(np.stack([ctx.atoms.origins(kept), why[kept]], axis=1), axis=0)
    found = []
    for origin, reason in keys.tolist():
        made = ctx.origins[origin]
        if made.kind == "channels":
            found.append(Frozen(_module_of(made.name), reasons[reason]))
        elif not reasons[reason].startswith(TAKEN_APART):  # the q, k, v axis of a fused projection
            found.append(Frozen(f"{made.module or made.name} {made.kind}", reasons[reason]))
    return found


def _distinct(frozen: list[Frozen]) -> list[Frozen]:
    return list(dict.fromkeys(frozen))


def _final(rows: Rows, number: np.ndarray) -> Rows | None:
    atoms = tidy(number[rows])
    return None if (atoms < 0).all() else np.ascontiguousarray(atoms, dtype=np.int32)
