"""A part put back: the whole gives it what it gave before, gets what it got before, and answers the same.

What follows a part may pick candidates by their score, where rounding decides between equal ones. So the
other part runs in its place and is compared there, and the rest goes on from the first one's answer: then the
whole's answers must be the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import first_line
from dtp_edge.graph import MaskedNetwork, PrunableNetwork, mode_of
from dtp_edge.graph.as_found import left_as_found
from dtp_edge.graph.leaves import call, leaves
from dtp_edge.graph.part import Stand, Whole
from dtp_edge.proof.check import Check
from dtp_edge.surgery import Compact
from dtp_edge.surgery.difference import ROUNDING_LIMIT, relative_error

__all__ = ["check_put_back", "whole_with_its_graph"]


def whole_with_its_graph(whole: Whole, network: PrunableNetwork) -> Check:
    """Compare the whole with its own part and with the traced one."""
    return _compared("the whole == with its traced part", whole, whole.part, network.graph_module)


def check_put_back(whole: Whole, network: PrunableNetwork, keep: np.ndarray, result: Compact) -> Check:
    """Compare the whole with the masked part and with the compact one."""
    return _compared("the whole, masked == compact", whole, MaskedNetwork(network, keep), result.module)


def _compared(name: str, whole: Whole, one: nn.Module, other: nn.Module) -> Check:
    before = whole.inside(whole.module)
    noted: list[Any] = []  # of closures: attributes of a module are put back after a call
    errors: list[float] = []

    def note(*inputs: Any) -> Any:
        noted.append(one(*inputs))
        return noted[0]

    def compare(*inputs: Any) -> Any:
        found = other(*inputs)
        same = pytree.tree_structure(found) == pytree.tree_structure(noted[0])
        errors.append(relative_error(leaves(noted[0]), leaves(found)) if same else float("inf"))
        return noted[0]

    try:
        with torch.random.fork_rng(devices=[]), mode_of(one, other, training=False):
            wanted, found = _answers(whole, note), _answers(whole, compare)
    except Exception as error:  # whatever the user's code raises
        why = f"the whole network raises {first_line(error, kind=True)}"
        return Check(name, False, float("inf"), ROUNDING_LIMIT, why)
    finally:
        whole.put(before)
    same = len(wanted) == len(found) and all(map(_equal, wanted, found))
    detail = "on the example inputs" if same else "the rest of the network answers something else"
    error = max(errors, default=float("inf"))
    return Check(name, same and error <= ROUNDING_LIMIT, error, ROUNDING_LIMIT, detail)


def _answers(whole: Whole, part: Callable[..., Any]) -> list[torch.Tensor]:
    whole.put(Stand(part, whole.part, len(whole.inputs)))
    with left_as_found(whole.module):
        torch.manual_seed(0)
        return leaves(call(whole.module, whole.example_inputs))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
