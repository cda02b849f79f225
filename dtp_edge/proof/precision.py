"""Networks in float64, bfloat16 or float16: pruned in float32, and the compact one given back in theirs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import UnsupportedError, first_line
from dtp_edge.graph import MaskedNetwork
from dtp_edge.graph.as_found import left_as_found
from dtp_edge.graph.leaves import call, leaves
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.graph.own_copy import floats_in_float32
from dtp_edge.proof.equality import convert_literals, copied_network
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error

# how far a network may be from itself in float32: a hundred roundings of its own
_LIMITS = {torch.float64: FLOAT32_LIMIT, torch.float16: 0.1, torch.bfloat16: 0.8}


def require_same_function(model: nn.Module, plain: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Raise `UnsupportedError` where a network is another function in float32 (`plain`)."""
    kind = next(p.dtype for p in model.parameters() if p.dtype in _LIMITS)
    own = pytree.tree_map_only(torch.Tensor, lambda x: x.to(kind) if x.is_floating_point() else x, inputs)
    try:
        with left_as_found(model), left_as_found(plain):
            pair = leaves(call(model, own)), leaves(call(plain, floats_in_float32(inputs)))
    except Exception as error:  # whatever the user's code raises in one of the two
        raise _refused(kind, f"does not run in both ({first_line(error, kind=True)})") from error
    gap = relative_error([x.float() for x in pair[0]], pair[1]) if pair[1] else 0.0
    if gap > _LIMITS[kind]:
        raise _refused(kind, f"computes something else there (relative error {gap:.2g})")


def _refused(kind: torch.dtype, why: str) -> UnsupportedError:
    name = str(kind).removeprefix("torch.")
    return UnsupportedError(
        f"the network is {name}, is pruned in float32, and {why}",
        hint="Give model.float() with float32 inputs, and see whether it does what you want.",
    )


def in_precision(
    network: PrunableNetwork, keep: np.ndarray, compact: nn.Module, kind: torch.dtype | None
) -> tuple[nn.Module, MaskedNetwork, tuple[str, ...]]:
    """Return the compact and the masked network in the user's precision, and why they are not (or ())."""
    masked = MaskedNetwork(network, keep)
    if kind is None:
        return compact, masked, ()
    inputs = pytree.tree_map_only(
        torch.Tensor, lambda x: x.to(kind) if x.is_floating_point() else x, network.example_inputs
    )
    try:
        module = copy.deepcopy(compact).to(kind)
        if isinstance(module, fx.GraphModule):
            convert_literals(module, kind)
        theirs = MaskedNetwork(copied_network(network, dtype=kind), keep)
        wanted = leaves(call(compact, network.example_inputs))
        found = [[x.float() for x in leaves(call(one, inputs))] for one in (module, theirs)]
        gap = max(relative_error(wanted, one) for one in found)
    except Exception as error:  # source code that names float32
        return compact, masked, (_left(kind, first_line(error, kind=True)),)
    if gap > _LIMITS[kind]:
        return compact, masked, (_left(kind, f"there it would differ by {gap:.2g}"),)
    return module, theirs, ()


def _left(kind: torch.dtype, why: str) -> str:
    return f"the compact network is left in float32, not {str(kind).removeprefix('torch.')}: {why}"
