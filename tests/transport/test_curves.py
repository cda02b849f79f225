"""Widths from error curves: convex rises, scaled to what was measured, in the curve's order."""

from __future__ import annotations

import numpy as np
import pytest

from dtp_edge.transport.curves import rises_of, worths


def test_rises_never_fall_and_keep_the_sum() -> None:
    error = np.array([0.0, 3.0, 4.0, 4.5, 9.0, 12.0])
    rises = rises_of(error, {})
    assert (np.diff(rises) >= -1e-12).all()
    assert rises.sum() == pytest.approx(12.0)
    np.testing.assert_allclose(rises, [1.5, 1.5, 1.5, 3.75, 3.75])


def test_the_curve_passes_through_what_was_measured() -> None:
    error = np.array([0.0, 1.0, 3.0, 7.0, 15.0])
    rises = rises_of(error, {1: 0.1, 3: 1.4})
    scaled = np.cumsum(rises)
    assert scaled[0] == pytest.approx(0.1)
    assert scaled[2] == pytest.approx(1.4)
    assert 0.1 < scaled[1] < 1.4


def test_no_trust_leaves_the_curve_as_it_is() -> None:
    error = np.array([0.0, 1.0, 3.0, 7.0])
    np.testing.assert_allclose(rises_of(error, {2: 99.0}, 0.0), [1.0, 2.0, 4.0])


def test_an_error_of_nothing_is_worth_nothing() -> None:
    assert (rises_of(np.zeros(5), {2: 0.0}) == 0).all()


def test_worths_fall_along_the_order() -> None:
    order = np.array([2, 0, 1])
    values = worths(5, [2], [order], [np.array([1.0, 1.0, 4.0])])
    assert (values[:2] == 0).all()
    first, second, last = values[2 + order]
    assert 0 < first < second < last
    assert last == pytest.approx(4.0, rel=1e-4)
