"""The file, read back in ONNX Runtime, against the network that it was exported from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from dtp_edge.files.sessions import open_session
from dtp_edge.graph import mode_of
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import as_tuple, batch_one, in_float64, leaves, random_like
from dtp_edge.onnx.bounded import bounded_outputs, with_exact_ends
from dtp_edge.onnx.selection import Pick, Picking, file_picks
from dtp_edge.proof.check import Check
from dtp_edge.proof.equality import in_double
from dtp_edge.surgery.difference import FLOAT32_LIMIT, ROUNDING_LIMIT, relative_error

FLOAT16_LIMIT = 2e-3  # outputs that the file rounds to 16 bits
NAME = "torch == ONNX Runtime"


def check_onnx(
    path: str | Path,
    module: nn.Module,
    example_inputs: tuple[Any, ...] | torch.Tensor,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    limit: float = FLOAT32_LIMIT,
) -> Check:
    """Read the file back in ONNX Runtime and compare it with `module` in eval mode on random inputs.

    Where they differ because the network magnifies the rounding of float32, float64 decides: the file may be
    at most `ROUNDING_LIMIT` from the module in float64, and hardly farther than the module in float32 is.
    Outputs of bounded functions (probabilities) may be off by the rounding of a runtime's sigmoid; where they
    are smaller than that, float64 decides by their own scale.
    Where it picks candidates (TopK, ArgMax), rounding decides between equal ones: then the module is run with
    the file's picks, which must be the best by the module's own scores within the same limits.
    """
    session = open_session(Path(path))
    names = [i.name for i in session.get_inputs()]
    given = as_tuple(example_inputs)
    if any(o.type == "tensor(float16)" for o in session.get_outputs()):
        limit = max(limit, FLOAT16_LIMIT)
    first = [i.shape[0] for i in session.get_inputs() if i.shape][:1]
    own_batch = bool(first) and isinstance(first[0], int) and first[0] != 1
    given = given if own_batch else batch_one(given)

    model = onnx.load(str(path), load_external_data=False)
    bounded = bounded_outputs(model)

    def apart(wanted: Sequence[Any], found: Sequence[Any]) -> float:
        return relative_error(wanted, found, bounded=bounded)

    detail = f"{len(seeds)} random inputs, file read back"
    samples = [random_like(given, seed) for seed in seeds]
    picks: list[list[Pick]] = []
    try:
        feeds = [_feed(names, x) for x in samples]
        found = [[np.asarray(y) for y in session.run(None, feed)] for feed in feeds]
        with torch.no_grad(), hushed(), mode_of(module, training=False):
            single = [leaves(module(*x)) for x in samples]
            worst = max(map(apart, single, found))
            if worst > limit and (picks := file_picks(Path(path), model, feeds)):
                single, picked = _answers(module, samples, picks)
                found = [[*outputs, *more] for outputs, more in zip(found, picked, strict=True)]
                worst = max(map(apart, single, found))
                detail += ", candidates as the file picks them"
            truth = [] if worst <= limit else _in_float64(module, samples, picks)
            near_zero = worst <= limit and not picks and max(map(relative_error, single, found)) > limit
            exact = _by_own_scale(Path(path), module, samples, feeds) if near_zero else None
    except Exception as error:  # whatever ONNX Runtime or the user's code raises
        return Check(NAME, False, float("inf"), limit, f"{type(error).__name__}: {error}"[:300])
    if exact is not None and exact[0] > max(limit, min(ROUNDING_LIMIT, 4 * exact[1])):
        why = f"{detail}; an output near 0, by its own scale in float64 (torch in float32: {exact[1]:.1e})"
        return Check(NAME, False, exact[0], limit, why)
    if not truth:
        return Check(NAME, worst <= limit, worst, limit, detail)
    own = max(map(apart, truth, single))
    away = max(map(apart, truth, found))
    why = f"{detail}; to float64, from which torch in float32 is {own:.1e} away (the two: {worst:.1e})"
    if away <= min(ROUNDING_LIMIT, 4 * own):
        return Check(NAME, True, away, ROUNDING_LIMIT, why)
    return Check(NAME, False, worst, limit, detail)


def _feed(names: Sequence[str], inputs: tuple[Any, ...]) -> dict[str, np.ndarray]:
    return dict(zip(names, (x.numpy() for x in leaves(inputs)), strict=True))


def _answers(
    module: nn.Module, samples: Sequence[tuple[Any, ...]], picks: Sequence[Sequence[Pick]]
) -> tuple[list[list[Any]], list[list[np.ndarray]]]:
    """Run `module` on each sample with the file's picks: its outputs and scores, and the file's scores."""
    own, file = [], []
    for x, of_sample in zip(samples, picks or [()] * len(samples), strict=True):
        with Picking(of_sample) as picking:
            outputs = leaves(module(*x))
        own.append([*outputs, *picking.own])
        file.append(picking.file)
    return own, file


def _by_own_scale(
    path: Path, module: nn.Module, samples: Sequence[tuple[Any, ...]], feeds: Sequence[dict[str, np.ndarray]]
) -> tuple[float, float] | None:
    """Return how far file and torch are from float64 by each output's own scale; None if nothing can tell.

    The last function of bounded outputs is computed in float64 in both.
    """
    truth, exact = _in_float64(module, samples, []), with_exact_ends(path)
    if not truth or exact is None:
        return None
    single = [leaves(module(*x)) for x in samples]
    found = [exact.run(None, feed) for feed in feeds]
    own, file = (max(map(relative_error, truth, outputs)) for outputs in (single, found))
    return file, own


def _in_float64(
    module: nn.Module, samples: Sequence[tuple[Any, ...]], picks: Sequence[Sequence[Pick]]
) -> list[list[Any]]:
    """Return `_answers` of `module` in float64 on the same inputs, [] where it does not run in it."""
    try:
        return _answers(in_double(module), [in_float64(x) for x in samples], picks)[0]
    except (RuntimeError, TypeError):
        return []
