"""The user's network as a graph that is proved to be it, with weights that mean something."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.graph.own_copy import floats_in_float32, in_float32, other_precisions, own_copy, unwrapped
from dtp_edge.graph.part import Whole
from dtp_edge.proof import Check, check_traced_equals_own, require
from dtp_edge.proof.in_whole import whole_with_its_graph
from dtp_edge.proof.precision import require_same_function

__all__ = ["Traced", "refuse_nonfinite", "traced", "traced_for", "weights_sha256"]


@dataclass(frozen=True)
class Traced:
    """The network that is pruned, with the proofs of its trace and the checksum of its weights.

    `precision` is what these were in where that is one other than float32; `whole` the network around it,
    where it is a part.
    """

    network: PrunableNetwork
    checks: tuple[Check, ...]
    sha256: str
    precision: torch.dtype | None = None
    whole: Whole | None = None


def traced_for(
    model: nn.Module,
    example_inputs: tuple[Any, ...],
    exclude: Sequence[str] = (),
    *,
    depth: bool = False,
    part: str | None = None,
) -> Traced:
    """Trace a copy of the user's network as `traced` does, or only its `part`, whose inputs are recorded."""
    whole = None
    if part is not None:
        whole = Whole.of(model, part, example_inputs)
        model, example_inputs = whole.part, whole.inputs
    network, checks = traced(model, example_inputs, exclude, depth=depth)
    if whole is not None:
        checks = (*checks, whole_with_its_graph(whole, network))
        network.notes = (*whole.notes, whole.note(), *network.notes)
        whole.put(network.module)
    others = other_precisions(unwrapped(model))
    precision = next(iter(others)) if len(others) == 1 else None
    return Traced(network, checks, weights_sha256(model), precision, whole)


def traced(
    model: nn.Module, example_inputs: tuple[Any, ...], exclude: Sequence[str] = (), *, depth: bool = False
) -> tuple[PrunableNetwork, tuple[Check, ...]]:
    """Trace a copy of the user's network, with `depth` its branches too; prove that the graph is it.

    **Raises:** `UnsupportedError`, `InputError` (weights that are not finite too), `CheckError`.
    """
    own, notes = own_copy(model)
    refuse_nonfinite(own)
    if (library := library_of(own)) is not None:
        library.prepare(own)
        model, _ = own_copy(model)
        library.prepare(model)
    if other_precisions(model := unwrapped(model)):
        plain = in_float32(model)
        require_same_function(model, plain, example_inputs)
        model, example_inputs = plain, floats_in_float32(example_inputs)
    network = trace_network(own, example_inputs, exclude=exclude, depth=depth)
    network.notes = (*notes, *network.notes)
    checks = (check_traced_equals_own(model, network),)
    require(checks)
    return network, checks


def refuse_nonfinite(model: nn.Module) -> None:
    """Raise InputError if a weight is NaN or infinite: no score computed from it would mean anything."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(
                "holds NaN or infinite values",
                where=name,
                hint="Load a checkpoint whose training did not diverge.",
            )


def weights_sha256(model: nn.Module) -> str:
    """Checksum of a network's weights: names, shapes and bytes in the order of the state dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
