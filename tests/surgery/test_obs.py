"""Structured brain surgery against brute force: numpy's least squares for every subset that could have
gone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dtp_edge.surgery.obs import Reads, eliminate

ATOMS, COLUMNS, NEURONS, ROWS = 5, 2, 3, 60


def reader(seed: int, columns: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, Reads]:
    """Correlated inputs `[rows, d]`, weights, and both as moments."""
    draw = np.random.default_rng(seed)
    d = ATOMS * COLUMNS
    x = draw.normal(size=(ROWS, d)) @ draw.normal(size=(d, d))
    w = draw.normal(size=(NEURONS, d))
    if columns is None:
        columns = np.arange(d).reshape(ATOMS, COLUMNS)
    return x, w, Reads(torch.from_numpy(x.T @ x / ROWS), torch.from_numpy(w), columns)


def best_error(x: np.ndarray, w: np.ndarray, columns: np.ndarray, gone: tuple[int, ...]) -> float:
    """Mean squared error left by numpy's least squares on the inputs of the atoms that stay."""
    y = x @ w.T
    lost = {c for a in gone for c in columns[a] if c >= 0}
    stay = [i for i in range(x.shape[1]) if i not in lost]
    fitted = x[:, stay] @ np.linalg.lstsq(x[:, stay], y, rcond=None)[0] if stay else 0.0
    return float(np.square(y - fitted).sum() / len(x))


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_what_least_squares_leaves_at_every_width(seed: int) -> None:
    """Two readers of one group: their errors add, and one order serves both."""
    cases = [reader(seed), reader(seed + 100)]
    curve = eliminate([reads for _, _, reads in cases], ATOMS)
    for t in range(ATOMS + 1):
        gone = tuple(int(a) for a in curve.order[:t])
        wanted = sum(best_error(x, w, reads.columns, gone) for x, w, reads in cases)
        assert curve.error[t] == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_every_step_takes_the_cheapest_atom(seed: int) -> None:
    x, w, reads = reader(seed)
    curve = eliminate([reads], ATOMS)
    for t in range(ATOMS - 1):
        gone = tuple(int(a) for a in curve.order[:t])
        others = [a for a in range(ATOMS) if a not in gone]
        errors = {a: best_error(x, w, reads.columns, (*gone, a)) for a in others}
        assert int(curve.order[t]) == min(errors, key=errors.__getitem__)


def test_repaired_weights_are_the_least_squares_ones() -> None:
    x, w, reads = reader(7)
    curve = eliminate([reads], ATOMS, keep_at=[2])
    ((_, weights),) = curve.repaired[2]
    stay = np.sort(reads.columns[curve.order[2:]].reshape(-1))
    lost = reads.columns[curve.order[:2]].reshape(-1)
    wanted = np.linalg.lstsq(x[:, stay], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(weights.numpy()[:, stay], wanted, rtol=1e-6, atol=1e-8)
    assert (weights.numpy()[:, lost] == 0).all()


def test_atoms_may_have_different_numbers_of_inputs() -> None:
    """-1 fills up; what it fills up with weighs nothing."""
    columns = np.array([[0, 1, 2], [3, -1, -1], [4, 5, -1], [6, 7, 8], [9, -1, -1]])
    x, w, reads = reader(3, columns)
    curve = eliminate([reads], ATOMS)
    for t, _ in itertools.pairwise(range(ATOMS + 1)):
        gone = tuple(int(a) for a in curve.order[:t])
        assert curve.error[t] == pytest.approx(best_error(x, w, columns, gone), rel=1e-6, abs=1e-8)


def test_a_large_group_loses_several_atoms_a_step_and_still_adds_up() -> None:
    x, w, reads = reader(5)
    curve = eliminate([reads], ATOMS, steps=2)
    assert sorted(curve.order.tolist()) == list(range(ATOMS))
    assert (np.diff(curve.error) >= 0).all()
    for t in (0, 3, 5):  # where a step ends
        gone = tuple(int(a) for a in curve.order[:t])
        assert curve.error[t] == pytest.approx(best_error(x, w, reads.columns, gone), rel=1e-6, abs=1e-8)


def test_inputs_that_repeat_each_other_neither_crash_nor_let_weights_grow() -> None:
    """A singular moment, with the ridge that `Moment.blocks` puts on it."""
    x, w, _ = reader(2)
    x[:, COLUMNS:] = np.tile(x[:, :COLUMNS], (1, ATOMS - 1))
    moment = torch.from_numpy(x.T @ x / ROWS)
    moment.diagonal().add_(1e-3 * moment.diagonal().mean())
    columns = np.arange(ATOMS * COLUMNS).reshape(ATOMS, COLUMNS)
    curve = eliminate([Reads(moment, torch.from_numpy(w), columns)], ATOMS, keep_at=[ATOMS - 1])
    assert np.isfinite(curve.error).all()
    ((_, weights),) = curve.repaired[ATOMS - 1]
    assert weights.norm() <= 2 * ATOMS * np.linalg.norm(w)
