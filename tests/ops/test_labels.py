"""Atoms against plain sets: classes by brute force, every equation true for every choice of leaves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dtp_edge.ops.labels import Atoms, stack_rows, tidy


def classes_by_hand(size: int, pairs: np.ndarray) -> list[set[int]]:
    classes = [{i} for i in range(size)]
    for a, b in pairs.tolist():
        left = next(c for c in classes if a in c)
        right = next(c for c in classes if b in c)
        if left is not right:
            classes.remove(right)
            left |= right
    return classes


@pytest.mark.parametrize("seed", range(20))
def test_united_atoms_are_the_classes_of_the_equations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms, size = Atoms(), 30
    rows = atoms.fresh(size, origin=0)
    pairs = rng.integers(0, size, (int(rng.integers(1, 25)), 2))
    for part in np.array_split(pairs, 3):  # in several calls, as rules state them
        atoms.equate(rows[part[:, 0]], rows[part[:, 1]], "test")
    roots = atoms.find(np.arange(size))
    wanted = classes_by_hand(size, pairs)
    assert len(set(roots.tolist())) == len(wanted)
    assert all(len(set(roots[list(members)].tolist())) == 1 for members in wanted)


def value_of(leaves: np.ndarray, assigned: dict[int, bool]) -> list[bool]:
    """An index is kept where all its leaves are; one without an atom always is."""
    return [all(assigned[int(a)] for a in row if a >= 0) for row in leaves]


@pytest.mark.parametrize("seed", range(40))
def test_every_equation_holds_for_every_choice_of_what_stays(seed: int) -> None:
    """Products of up to three atoms on both sides, all 2^n choices of the free leaves."""
    rng = np.random.default_rng(seed)
    atoms, size = Atoms(), 7
    atoms.fresh(size, origin=0)
    equations = []
    for _ in range(int(rng.integers(1, 6))):
        count = int(rng.integers(1, 4))
        left, right = (
            rng.integers(-1, size, (count, int(rng.integers(1, 4)))).astype(np.int32) for _ in range(2)
        )
        equations.append((left, right))
        atoms.equate(tidy(left), tidy(right), "test")
    which, _ = atoms.frozen()
    leaves = sorted({int(a) for a in atoms.leaves()[:-1].ravel() if a >= 0})
    free = [a for a in leaves if which[a] < 0]
    for bits in itertools.product([False, True], repeat=len(free)):
        assigned = dict.fromkeys(leaves, True) | dict(zip(free, bits, strict=True))
        for left, right in equations:
            assert value_of(atoms.expand(tidy(left)), assigned) == value_of(
                atoms.expand(tidy(right)), assigned
            )


def test_a_flattened_axis_is_kept_where_head_and_inner_index_are() -> None:
    atoms = Atoms()
    heads, inner, flat = atoms.fresh(2, 0), atoms.fresh(3, 1), atoms.fresh(6, 2)
    pairs = np.concatenate([np.repeat(heads, 3, axis=0), np.tile(inner, (2, 1))], axis=1)
    atoms.equate(flat, pairs, "flatten")
    found = [set(row.tolist()) for row in atoms.expand(flat)]
    assert found == [{h, i} for h in (0, 1) for i in (2, 3, 4)]
    assert atoms.origins(np.array([0, 4, 10])).tolist() == [0, 1, 2]


def test_what_is_equated_with_no_atom_is_frozen_for_the_first_reason() -> None:
    atoms = Atoms()
    rows = atoms.fresh(4, 0)
    atoms.equate(rows[:2], np.full((2, 1), -1, dtype=np.int32), "network output")
    atoms.freeze(rows[1:3], "later")
    which, reasons = atoms.frozen()
    assert [reasons[i] if i >= 0 else "" for i in which] == ["network output", "network output", "later", ""]


def test_tables_grow_and_keep_what_they_knew() -> None:
    atoms = Atoms()
    first = atoms.fresh(3, 7)
    atoms.equate(first[:1], first[1:2], "test")
    many = atoms.fresh(5000, 8)
    assert atoms.find(np.array([0, 1, 2])).tolist() == [0, 0, 2]
    assert atoms.origins(np.array([2, 3, 5002])).tolist() == [7, 8, 8]
    assert atoms.find(many[:, 0]).tolist() == list(range(3, 5003))
    assert atoms.find(np.array([-1])).tolist() == [-1]


def test_tidy_is_a_set_in_each_row() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-1, 3, (200, 4)).astype(np.int32)
    tidied = tidy(rows)
    assert [{a for a in row if a >= 0} for row in tidied.tolist()] == [
        {a for a in row if a >= 0} for row in rows.tolist()
    ]
    for row in tidied.tolist():
        held = [a for a in row if a >= 0]
        assert row[: len(held)] == held
        assert len(set(held)) == len(held)


def test_rows_of_different_depth_are_stacked() -> None:
    stacked = stack_rows([np.array([[1]], np.int32), np.array([[2, 3]], np.int32)])
    assert stacked.tolist() == [[1, -1], [2, 3]]
