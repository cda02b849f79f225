"""Atoms and the equations between them: a vectorised union-find with products.

A row is the set of atoms that must all be kept for an index to be kept. Rules state equations between
rows; `Atoms.equate` makes each of them true by uniting atoms or by defining an atom as a product of
others (channel c of a flattened `heads x inner` axis is kept iff its head and its inner index are).
Every step is *sufficient*: it may tie more than needed, never less, so no order of rules can make a
wrong network.
"""

from __future__ import annotations

import numpy as np

from dtp_edge.ops.refusal import Refusal

Rows = np.ndarray  # int32 [size, depth], -1 where no atom


class Atoms:
    """Union-find over integer atoms. A root is a leaf, or defined as a product of leaves.

    The tables have one entry more than atoms fit: index -1 addresses it and finds -1, "no atom".
    """

    def __init__(self) -> None:
        self.count = 0
        self._parent = _table(1024, np.arange(1024))
        self._definition = _table(1024)  # row of `_products`, or -1
        self._products = np.zeros((0, 2), dtype=np.int32)
        self._origin = _table(1024)
        self._frozen: list[tuple[np.ndarray, Refusal]] = []

    def fresh(self, size: int, origin: int) -> Rows:
        """Return `[size, 1]` new atoms that belong to `origin`."""
        start, self.count = self.count, self.count + size
        if self.count >= len(self._parent):
            old, new = len(self._parent) - 1, 2 * self.count
            self._parent = _table(new, np.concatenate([self._parent[:old], np.arange(old, new)]))
            self._definition = _table(new, self._definition[:old])
            self._origin = _table(new, self._origin[:old])
        self._origin[start : self.count] = origin
        return np.arange(start, self.count, dtype=np.int32)[:, None]

    def origins(self, atoms: np.ndarray) -> np.ndarray:
        return self._origin[atoms]

    def find(self, atoms: np.ndarray) -> np.ndarray:
        """Return the root of every atom; -1 stays -1."""
        roots, steps = self._parent[atoms], 0
        while True:
            up = self._parent[roots]
            if (up == roots).all():
                if steps:
                    self._parent[atoms] = roots
                return roots
            roots, steps = up, steps + 1

    def expand(self, rows: Rows) -> Rows:
        """Return the rows as leaves, each once, -1 at the right."""
        while True:
            rows = self.find(rows)
            if not len(self._products):
                break
            defined = self._definition[rows]
            if (defined < 0).all():
                break
            columns = []
            for k in range(rows.shape[1]):
                wide = np.full((len(rows), self._products.shape[1]), -1, dtype=np.int32)
                wide[:, 0] = rows[:, k]
                hit = defined[:, k] >= 0
                wide[hit] = self._products[defined[hit, k]]
                columns.append(wide)
            rows = tidy(np.concatenate(columns, axis=1))
        return tidy(rows)

    def leaves(self) -> Rows:
        """Return the leaves of every atom, `[count + 1, depth]`; the last row, which -1 finds, has none."""
        atoms = np.arange(self.count + 1, dtype=np.int32)[:, None]
        atoms[-1] = -1
        return self.expand(atoms)

    def freeze(self, rows: Rows, reason: Refusal) -> None:
        """Keep every index of these rows for ever."""
        atoms = rows[rows >= 0]
        if len(atoms):
            self._frozen.append((atoms, reason))

    def frozen(self, table: Rows | None = None) -> tuple[np.ndarray, list[Refusal]]:
        """Return, for every atom, the index of the first reason that froze it as a leaf (-1: free).

        `table` are the `leaves` of every atom, if they are known.
        """
        reasons = [reason for _, reason in self._frozen]
        which = np.full(self.count, -1, dtype=np.int32)
        if self._frozen:
            sizes = [len(atoms) for atoms, _ in self._frozen]
            leaves = (self.leaves() if table is None else table)[np.concatenate([a for a, _ in self._frozen])]
            index = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
            for k in range(leaves.shape[1]):
                hit = leaves[:, k] >= 0
                # assigned last to first, so that the first reason stays
                which[leaves[hit, k][::-1]] = index[hit][::-1]
        return which, reasons

    def equate(self, left: Rows, right: Rows, reason: Refusal) -> None:
        """Make index i of one dimension live and die with index i of another.

        Rows without an atom are always kept, so what is equated with them is frozen for `reason`.
        """
        while len(left):
            left, right = self.expand(left), self.expand(right)
            left, right = same_depth(left, right)
            different = left[:, 0] != right[:, 0] if left.shape[1] == 1 else (left != right).any(axis=1)
            left, right = left[different], right[different]
            if not len(left):
                return
            left, right = self._equate_once(left, right, reason)

    def _equate_once(self, left: Rows, right: Rows, reason: Refusal) -> tuple[Rows, Rows]:
        """Settle what can be settled in one step and return the rows that may need another."""
        n_left, n_right = (left >= 0).sum(axis=1), (right >= 0).sum(axis=1)
        kept = (n_left == 0) | (n_right == 0)
        self.freeze(left[kept], reason)
        self.freeze(right[kept], reason)
        pairwise = ~kept & (n_left == n_right)
        if pairwise.any():
            self._unite(left[pairwise], right[pairwise])
            rest = ~kept & ~pairwise
            return left[rest], right[rest]
        swap = (n_right == 1)[:, None]
        left, right = np.where(swap, right, left)[~kept], np.where(swap, left, right)[~kept]
        single = (left >= 0).sum(axis=1) == 1
        cyclic = (left[:, :1] == right).any(axis=1)
        self._collapse(left[~single | cyclic], right[~single | cyclic])
        defining = single & ~cyclic
        if (~defining).any():  # the leaves have changed: look again before defining anything
            return left[defining], right[defining]
        _, first = np.unique(left[:, 0], return_index=True)
        first = self._acyclic(left[:, 0], right, first)
        self._define(left[first, 0], right[first])
        return left, right

    def _acyclic(self, atoms: np.ndarray, rows: Rows, chosen: np.ndarray) -> np.ndarray:
        """Of the chosen definitions keep those whose factors are not defined in the same step."""
        clash = np.isin(rows[chosen], atoms[chosen]).any(axis=1)
        return chosen[~clash] if not clash.all() else chosen[:1]

    def _define(self, atoms: np.ndarray, rows: Rows) -> None:
        start = len(self._products)
        old, new = same_depth(self._products, rows)
        self._products = np.concatenate([old, new])
        self._definition[atoms] = np.arange(start, start + len(atoms), dtype=np.int32)

    def _collapse(self, left: Rows, right: Rows) -> None:
        """Unite everything in each pair of rows: the last resort, always sound."""
        rows = np.concatenate([left, right], axis=1)
        for k in range(1, rows.shape[1]):
            self._unite(rows[:, :1], rows[:, k : k + 1])

    def _unite(self, left: np.ndarray, right: np.ndarray) -> None:
        both = (left >= 0) & (right >= 0)
        a, b = left[both], right[both]
        while len(a):
            a, b = self.find(a), self.find(b)
            different = a != b
            a, b = a[different], b[different]
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))


def _table(size: int, values: np.ndarray | None = None) -> np.ndarray:
    """Return `[size + 1]` entries that begin with `values`, -1 after them."""
    table = np.full(size + 1, -1, dtype=np.int32)
    if values is not None:
        table[: len(values)] = values
    return table


def tidy(rows: Rows) -> Rows:
    """Drop repeated atoms of a row, move -1 to the right, cut columns that hold nothing."""
    depth = rows.shape[1]
    if depth <= 1:
        return rows
    columns = [rows[:, k] for k in range(depth)]
    for k in range(1, depth):
        for before in columns[:k]:
            again = before == columns[k]
            if again.any():
                columns[k] = np.where(again, np.int32(-1), columns[k])
    for end in range(depth - 1, 0, -1):  # as often as an atom may have to move
        for k in range(end):
            gap = columns[k] < 0
            if gap.any():
                columns[k], columns[k + 1] = (
                    np.where(gap, columns[k + 1], columns[k]),
                    np.where(gap, np.int32(-1), columns[k + 1]),
                )
    while len(columns) > 1 and columns[-1].max(initial=-1) < 0:
        columns.pop()
    return np.stack(columns, axis=1)


def same_depth(left: Rows, right: Rows) -> tuple[Rows, Rows]:
    """Pad both with -1 to the deeper of the two."""
    depth = max(left.shape[1], right.shape[1])
    return _padded(left, depth), _padded(right, depth)


def _padded(rows: Rows, depth: int) -> Rows:
    if rows.shape[1] == depth:
        return rows
    wide = np.full((len(rows), depth), -1, dtype=np.int32)
    wide[:, : rows.shape[1]] = rows
    return wide


def stack_rows(parts: list[Rows]) -> Rows:
    """Concatenate rows of any depth along the index."""
    depth = max(p.shape[1] for p in parts)
    return np.concatenate([_padded(p, depth) for p in parts])
