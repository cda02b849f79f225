"""Proofs by numbers: two networks that must compute the same function, on inputs that neither has seen."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.export.onnx_session import open_session

FLOAT32_LIMIT = 1e-4
FLOAT64_LIMIT = 1e-9
ROUNDING_LIMIT = 1e-2  # as far as float32 may stray in a network that magnifies its rounding


@dataclass(frozen=True)
class Check:
    """One proof: `value` is what was measured (relative error), `limit` what it may be at most."""

    name: str
    passed: bool
    value: float
    limit: float
    detail: str = ""


def require(checks: Iterable[Check]) -> None:
    """Raise `CheckError` naming every check that failed."""
    failed = [c for c in checks if not c.passed]
    if failed:
        lines = [
            f"{c.name}: {c.value:.3g}, may be at most {c.limit:.3g}. {c.detail}".rstrip() for c in failed
        ]
        raise CheckError(
            "the result is not what was promised: " + "; ".join(lines),
            hint=REPORT,
        )


def leaves(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors of a network's output, whatever it is nested in, in order."""
    return [x for x in pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor)]


def relative_error(reference: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the largest |a - b| over the largest |a|, the worst of all output tensors.

    Infinite if counts or shapes differ, or if either side holds a value that is not finite.
    """
    if len(reference) != len(other) or not reference:
        return float("inf")
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        x, y = _array(a), _array(b)
        if x.shape != y.shape or not np.isfinite(x).all() or not np.isfinite(y).all():
            return float("inf")
        if x.size == 0:
            continue
        gap, scale = float(np.abs(x - y).max()), float(np.abs(x).max())
        worst = max(worst, gap / scale if scale > 0 else (0.0 if gap == 0 else float("inf")))
    return worst


def _array(x: Any) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    return array.astype(np.float64)


def random_like(
    example_inputs: Sequence[Any], seed: int, dtype: torch.dtype | None = None
) -> tuple[Any, ...]:
    """Return inputs of the same shapes: normal noise for floats, the example itself for integers.

    Integers index tables, so other values could be out of range; their batch is permuted instead.
    """
    generator = torch.Generator().manual_seed(seed)

    def fresh(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if x.is_floating_point():
            return torch.randn(x.shape, generator=generator, dtype=dtype or x.dtype)
        flat = x.reshape(-1)
        return flat[torch.randperm(flat.numel(), generator=generator)].reshape(x.shape)

    return tuple(pytree.tree_map(fresh, x) for x in example_inputs)


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
    """
    from dtp_edge.export.to_onnx import as_inputs, batch_one

    session = open_session(Path(path))
    names = [i.name for i in session.get_inputs()]
    given = as_inputs(example_inputs)
    first = [i.shape[0] for i in session.get_inputs() if i.shape][:1]
    own_batch = bool(first) and isinstance(first[0], int) and first[0] != 1
    given = given if own_batch else batch_one(given)
    training = module.training
    module.eval()

    def run(*inputs: Any) -> list[np.ndarray]:
        arrays = [x.numpy() for x in leaves(inputs)]
        return [np.asarray(y) for y in session.run(None, dict(zip(names, arrays, strict=True)))]

    worst, own, exact = 0.0, 0.0, 0.0
    detail = f"{len(seeds)} random inputs, file read back"
    try:
        with torch.no_grad():
            pairs = [(leaves(module(*x)), run(*x)) for x in (random_like(given, seed) for seed in seeds)]
            worst = max(relative_error(*pair) for pair in pairs)
            truth = [] if worst <= limit else _in_float64(module, given, seeds)
            for wanted, (single, got) in zip(truth, pairs, strict=bool(truth)):
                own, exact = max(own, relative_error(wanted, single)), max(exact, relative_error(wanted, got))
    finally:
        module.train(training)
    if not truth or exact > min(ROUNDING_LIMIT, 4 * own):
        return Check("torch == ONNX Runtime", worst <= limit, worst, limit, detail)
    why = f"{detail}; to float64, from which torch in float32 is {own:.1e} away (the two: {worst:.1e})"
    return Check("torch == ONNX Runtime", True, exact, ROUNDING_LIMIT, why)


def _in_float64(module: nn.Module, given: tuple[Any, ...], seeds: Sequence[int]) -> list[list[torch.Tensor]]:
    """Return the outputs of `module` in float64 on the same inputs, [] where it does not run in it."""
    from dtp_edge.export.equality import convert_literals

    try:
        double = copy.deepcopy(module).double()
        if isinstance(double, torch.fx.GraphModule):
            convert_literals(double, torch.float64)
        inputs = [random_like(given, seed) for seed in seeds]
        return [leaves(double(*pytree.tree_map_only(torch.Tensor, _doubled, x))) for x in inputs]
    except (RuntimeError, TypeError):
        return []


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x
