"""From an nn.Module to an ATen graph that reads the module's own parameters by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from dtp_edge.graph.explain import explain, without_torchs_own_words
from dtp_edge.graph.inline import inline_regions
from dtp_edge.graph.lift import lift
from dtp_edge.graph.modes import mode_of
from dtp_edge.graph.normalise import normalise


def trace(model: nn.Module, example_inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, bool]:
    """Return the graph of `model` in eval mode, and whether its batch size is free.

    The graph's `get_attr` targets are the names of the model's parameters and buffers, and the tensors
    are the same objects. Raises `UnsupportedError` with torch.export's own reason if it cannot trace.
    """
    program, dynamic = exported(model, example_inputs)
    return graph_of(program, model), dynamic


def exported(model: nn.Module, example_inputs: tuple[Any, ...]) -> tuple[torch.export.ExportedProgram, bool]:
    """Return what torch.export makes of `model` in eval mode, and whether its batch size is free.

    Raises `UnsupportedError` with torch.export's own reason and the line at fault if it cannot trace.
    """
    inputs = tuple(_two_samples(x) for x in example_inputs)
    free = tuple({0: torch.export.Dim.AUTO} if _batched(x) else None for x in inputs)
    attempts: tuple[Any, ...] = (
        (inputs, free),
        (inputs, (free,)),  # forward(*inputs) is one argument to torch.export
        (example_inputs, None),
        (inputs, None),
    )
    failures: list[Exception] = []
    with evaluating(model):
        for args, dynamic in attempts:
            try:
                with without_torchs_own_words():
                    program = torch.export.export(model, args, dynamic_shapes=dynamic, strict=False)
            except Exception as error:  # torch.export raises whatever the user's code raises
                failures.append(error)
            else:
                return program, dynamic is not None
        raise explain(model, example_inputs, failures) from failures[0]


def graph_of(program: torch.export.ExportedProgram, model: nn.Module) -> fx.GraphModule:
    """Return the normalised graph of an exported program over the model's own tensors; uses `program` up."""
    graph_module = lift(program, model)
    inline_regions(graph_module)
    return normalise(graph_module)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode and give each its own mode back afterwards."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that only inference has
    try:
        with mode_of(model, training=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _batched(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dim() > 0


def _two_samples(x: Any) -> Any:
    """Repeat a batch of one: torch.export takes sizes of 1 for constants."""
    return torch.cat([x, x]) if _batched(x) and x.shape[0] == 1 else x
