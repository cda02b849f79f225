"""The file, read back in ONNX Runtime, against the network that it was exported from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.graph import mode_of
from dtp_edge.onnx.export import as_inputs, batch_one
from dtp_edge.onnx.session import open_session
from dtp_edge.proof.check import Check
from dtp_edge.proof.equality import convert_literals
from dtp_edge.surgery.difference import FLOAT32_LIMIT, ROUNDING_LIMIT, leaves, random_like, relative_error

FLOAT16_LIMIT = 2e-3  # outputs that the file rounds to 16 bits


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
    session = open_session(Path(path))
    names = [i.name for i in session.get_inputs()]
    given = as_inputs(example_inputs)
    if any(o.type == "tensor(float16)" for o in session.get_outputs()):
        limit = max(limit, FLOAT16_LIMIT)
    first = [i.shape[0] for i in session.get_inputs() if i.shape][:1]
    own_batch = bool(first) and isinstance(first[0], int) and first[0] != 1
    given = given if own_batch else batch_one(given)

    def run(*inputs: Any) -> list[np.ndarray]:
        arrays = [x.numpy() for x in leaves(inputs)]
        return [np.asarray(y) for y in session.run(None, dict(zip(names, arrays, strict=True)))]

    worst, own, exact = 0.0, 0.0, 0.0
    detail = f"{len(seeds)} random inputs, file read back"
    with torch.no_grad(), mode_of(module, training=False):
        pairs = [(leaves(module(*x)), run(*x)) for x in (random_like(given, seed) for seed in seeds)]
        worst = max(relative_error(*pair) for pair in pairs)
        truth = [] if worst <= limit else _in_float64(module, given, seeds)
        for wanted, (single, got) in zip(truth, pairs, strict=bool(truth)):
            own, exact = max(own, relative_error(wanted, single)), max(exact, relative_error(wanted, got))
    if not truth or exact > min(ROUNDING_LIMIT, 4 * own):
        return Check("torch == ONNX Runtime", worst <= limit, worst, limit, detail)
    why = f"{detail}; to float64, from which torch in float32 is {own:.1e} away (the two: {worst:.1e})"
    return Check("torch == ONNX Runtime", True, exact, ROUNDING_LIMIT, why)


def _in_float64(module: nn.Module, given: tuple[Any, ...], seeds: Sequence[int]) -> list[list[torch.Tensor]]:
    """Return the outputs of `module` in float64 on the same inputs, [] where it does not run in it."""
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
