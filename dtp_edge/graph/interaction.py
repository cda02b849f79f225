"""Is dimension 0 of the inputs a batch? Its rows must not know of each other: f(x)[i] = f(x[i:i+1]).

Sequence-first recurrent networks, frames of a clip and points of a cloud hold something else there. The cost
of one row and a file that reads one row would be those of another network.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.graph.leaves import batch_of, call, carries_batch, in_float64, leaves, random_like

_SURE, _SURE_IN_DOUBLE, _ROUNDING = 1e-5, 1e-8, 1e-2


def rows_interact(model: nn.Module, example_inputs: tuple[Any, ...]) -> str | None:
    """Return how the rows of the example depend on each other, None if they do not (or there is but one).

    `model` is called in the mode that it is in. One that does not run on its example is no matter here.
    """
    batch = batch_of(example_inputs)
    if batch is None or batch < 2:
        return None
    for inputs in (example_inputs, random_like(example_inputs, seed=5)):
        try:
            whole = call(model, inputs)
        except Exception:  # whatever the user's code raises; tracing will say what is wrong
            return None
        found = _departs(model, inputs, whole, batch)
        if found is not None:
            return found
    return None


def _departs(model: nn.Module, inputs: tuple[Any, ...], whole: Any, batch: int) -> str | None:
    worst = 0.0
    for row in (0, batch - 1):
        try:
            alone = call(model, _row(inputs, row, batch))
        except Exception as error:  # whatever the user's code raises about one row
            return f"it does not run on one of its {batch} rows alone ({type(error).__name__})"
        gap = _gap(leaves(whole), leaves(alone), row, batch)
        if gap is None:
            return f"its outputs do not have one row for each of the {batch}"
        worst = max(worst, gap)
    if worst <= _SURE:
        return None
    limit, exact = _ROUNDING, worst
    try:  # float32 adds up in another order for another batch
        double = copy.deepcopy(model).double()
        given = in_float64(inputs)
        outputs = leaves(call(double, given))
        gaps = [
            _gap(outputs, leaves(call(double, _row(given, row, batch))), row, batch) for row in (0, batch - 1)
        ]
        limit, exact = _SURE_IN_DOUBLE, max(float("inf") if gap is None else gap for gap in gaps)
    except Exception:  # source code that names float32, or cannot be copied
        exact = worst
    return None if exact <= limit else f"a row alone gives another result (it differs by {exact:.1g})"


def _row(inputs: tuple[Any, ...], row: int, batch: int) -> tuple[Any, ...]:
    return pytree.tree_map(lambda x: x[row : row + 1] if carries_batch(x, batch) else x, inputs)


def _gap(whole: list[torch.Tensor], alone: list[torch.Tensor], row: int, batch: int) -> float | None:
    """Return the largest relative difference of a row; None where an output has no such row.

    Outputs that do not depend on the batch (a table of anchors) are the same in both.
    """
    worst = 0.0
    if len(whole) != len(alone):
        return None
    for full, one in zip(whole, alone, strict=True):
        if full.ndim and full.shape[0] == batch and one.shape == (1, *full.shape[1:]):
            full = full[row : row + 1]
        if full.shape != one.shape:
            return None
        if one.numel():
            a, b = full.to(torch.complex128), one.to(torch.complex128)
            gap, scale = float((a - b).abs().max()), float(b.abs().max())
            worst = max(worst, gap / scale if scale else gap)
    return worst
