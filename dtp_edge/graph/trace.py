"""From an nn.Module to an ATen graph that reads the module's own parameters by their names."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.graph.as_found import TRACING, left_as_found
from dtp_edge.graph.explain import explain, numbers_decide_a_size, without_torchs_own_words
from dtp_edge.graph.inline import inline_regions
from dtp_edge.graph.interaction import rows_interact
from dtp_edge.graph.leaves import batch_of, carries_batch
from dtp_edge.graph.lift import lift, own_tensors
from dtp_edge.graph.normalise import normalise, write_numbers


def trace(model: nn.Module, example_inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, str | None]:
    """Return the graph of `model` in eval mode, and why its batch size is fixed (None: it is free).

    The graph's `get_attr` targets are the names of the model's parameters and buffers, and the tensors
    are the same objects. Raises `UnsupportedError` with torch.export's own reason if it cannot trace.
    """
    with TRACING, as_in_a_plain_process(model):
        program, fixed = exported(model, example_inputs)
        return graph_of(program, model), fixed


def exported(
    model: nn.Module, example_inputs: tuple[Any, ...]
) -> tuple[torch.export.ExportedProgram, str | None]:
    """Return what torch.export makes of `model` in eval mode, and why its batch is fixed (None: it is free).

    The batch is free where dimension 0 of the inputs holds samples that do not know of each other, and
    nothing in the network's Python code made a constant of it. Else the graph is that of the example's own
    shape. `model` is left as it was found. Raises `UnsupportedError` with torch.export's own reason and the
    line at fault if it cannot trace.
    """
    failures: list[Exception] = []
    with left_as_found(model):
        fixed = rows_interact(model, example_inputs)
    for inputs in () if fixed else _other_batches(example_inputs):
        program = _attempt(model, inputs, failures, batch=batch_of(inputs))
        if program is None:
            break
        if _batch_is_free(program, inputs):
            return program, None
    program = _attempt(model, example_inputs, failures, batch=None)
    if program is None:
        with left_as_found(model):
            raise explain(model, example_inputs, failures) from failures[0]
    return program, fixed or "its Python code makes a constant of the batch size"


def _attempt(
    model: nn.Module, inputs: tuple[Any, ...], failures: list[Exception], *, batch: int | None
) -> torch.export.ExportedProgram | None:
    """Export with dimension 0 free wherever it is `batch`; add what torch raises to `failures`."""
    shapes: Any = None
    if batch is not None:
        free = {0: torch.export.Dim.AUTO}
        shapes = pytree.tree_map(lambda x: free if carries_batch(x, batch) else None, inputs)
        kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
        if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL]:
            shapes = (shapes,)  # forward(*inputs) is one argument to torch.export
    try:
        with left_as_found(model), without_torchs_own_words():
            program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises whatever the user's code raises
        failures.append(error)
        return None
    if (refusal := numbers_decide_a_size(program.graph)) is not None:
        raise refusal
    return program


def _other_batches(inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the inputs at batches to trace with: torch.export takes sizes of 1 for constants.

    The second escapes a cache that was filled at the first.
    """
    batch = batch_of(inputs)
    if not batch:
        return
    for wanted in (2, 3) if batch == 1 else (batch, batch + 1):

        def grow(x: Any, wanted: int = wanted) -> Any:
            return torch.cat([x] * wanted)[:wanted] if carries_batch(x, batch) else x

        yield pytree.tree_map(grow, inputs)


def _batch_is_free(program: torch.export.ExportedProgram, inputs: tuple[Any, ...]) -> bool:
    """Return whether dimension 0 of every batched input is still a symbol."""
    batch = batch_of(inputs)
    given = pytree.tree_leaves(inputs)
    names = {s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"}
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    pairs = zip(nodes, given, strict=False)
    return all(_symbolic(n.meta["val"].shape[0]) for n, x in pairs if carries_batch(x, batch))


def _symbolic(size: Any) -> bool:
    return not isinstance(size, int) and bool(size.node.expr.free_symbols)


def graph_of(program: torch.export.ExportedProgram, model: nn.Module) -> fx.GraphModule:
    """Return the normalised graph of an exported program over the model's own tensors; uses `program` up."""
    graph_module = lift(program, model)
    inline_regions(graph_module)
    write_numbers(graph_module, own_tensors(model))
    return normalise(graph_module)


@contextlib.contextmanager
def as_in_a_plain_process(model: Any) -> Iterator[None]:
    """Switch off what surrounds the caller and is no part of the network: autocast, inference mode, devices.

    A default device other than the CPU gives way to that of the network.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            own = model.parameters() if isinstance(model, nn.Module) else ()
            stack.enter_context(next((p.device for p in own), torch.device("cpu")))
        yield
