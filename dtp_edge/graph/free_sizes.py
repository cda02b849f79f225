"""A second trace, in which height and width of images stay free: for a graph that is to run at other sizes.

Sizes of the example are constants of the first trace, from which costs are computed. Here they are symbols,
as the batch is. What tracing found true of them (a branch of the user's code on a size, say) is no part of
the graph: so where a size near by breaks such a guard, network and graph are run at it and must agree.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.graph.as_found import TRACING, left_as_found
from dtp_edge.graph.leaves import batch_of, call, carries_batch, leaves, random_like
from dtp_edge.graph.trace import as_in_a_plain_process, graph_of

_HIGHER, _WIDER = 32, 64  # pixels: most networks halve an image up to five times
_MOST_RUNS, _MOST_NODES, _MOST_GUARDS = 8, 2_000, 500  # what can be looked at in about a minute
_LIMIT = 1e-4  # of an output's scale
Size = tuple[int, int]


def image_size(inputs: Any) -> Size | None:
    """Return height and width of the images (floats, four dimensions) among the inputs, if all share one."""
    found = {tuple(x.shape[2:]) for x in leaves(inputs) if _is_image(x)}
    return next(iter(found)) if len(found) == 1 else None  # type: ignore[return-value]


def resized(inputs: tuple[Any, ...], size: Size, batch: int | None = None) -> tuple[Any, ...]:
    """Return noise of the inputs' kind with images of another size, and another batch where one is given."""
    old = batch_of(inputs)

    def one(x: Any) -> Any:
        if batch is not None and carries_batch(x, old):
            x = torch.cat([x] * -(-batch // x.shape[0]))[:batch]
        return x.new_empty((*x.shape[:2], *size)) if _is_image(x) else x

    return random_like(pytree.tree_map(one, inputs), seed=11)


def trace_free_sizes(
    model: nn.Module, example_inputs: tuple[Any, ...], *, free_batch: bool, length: int = 0
) -> tuple[fx.GraphModule, tuple[Any, ...]] | str | None:
    """Return the graph of `model` with free image sizes and the inputs that it was traced on, or why not.

    `length` is how many nodes the graph of one size has; a very long one is not traced again. None where the
    network has no images or takes them in one size only. `model` is left as it was found.
    """
    size = image_size(example_inputs)
    if size is None:
        return None
    wanted = size[0] + _HIGHER, size[1] + _WIDER
    if wanted[0] == wanted[1]:  # two numbers, or they could be taken for one
        wanted = wanted[0], wanted[1] + _HIGHER
    batch = max(2, batch_of(example_inputs) or 0) if free_batch else None
    inputs = resized(example_inputs, wanted, batch)
    with TRACING, as_in_a_plain_process(model), left_as_found(model):
        with left_as_found(model):  # of its own, or tracing would find what this call has cached
            if _outputs(model, inputs) is None:
                return None
        if length > _MOST_NODES:
            return f"its graph of {length} operators is too long to be traced twice"
        auto = torch.export.Dim.AUTO

        def free(x: Any) -> Any:
            dims = {0: auto} if batch is not None and carries_batch(x, batch) else {}
            return dims | ({2: auto, 3: auto} if _is_image(x) else {}) or None

        try:
            shapes = pytree.tree_map(free, inputs)
            program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export raises whatever the user's code raises
            return f"torch.export cannot trace it with free sizes ({type(error).__name__})"
        tries = _sizes_to_try(program, size, batch)
        if isinstance(tries, str):
            return tries
        graph = graph_of(program, model)
        for other in tries:
            if not _agree(model, graph, resized(inputs, other)):
                return f"its Python code does something else at {other[0]} x {other[1]}"
        return graph, inputs


def _is_image(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.ndim == 4 and x.is_floating_point()


def _outputs(module: Any, inputs: tuple[Any, ...]) -> list[torch.Tensor] | None:
    try:
        return leaves(call(module, inputs))
    except Exception:  # whatever the user's code raises at a size that it does not take
        return None


def _agree(model: nn.Module, graph: fx.GraphModule, inputs: tuple[Any, ...]) -> bool:
    """Return whether both compute the same, or the network itself does not run on these inputs."""
    with left_as_found(model):
        wanted = _outputs(model, inputs)
    found = None if wanted is None else _outputs(graph, inputs)
    if wanted is None or found is None:
        return wanted is None
    if [x.shape for x in wanted] != [x.shape for x in found]:
        return False
    pairs = [(a.double(), b.double()) for a, b in zip(wanted, found, strict=True) if a.numel()]
    return all(float((a - b).abs().max()) <= _LIMIT * float(a.abs().max()) for a, b in pairs)


def _sizes_to_try(program: torch.export.ExportedProgram, size: Size, batch: int | None) -> list[Size] | str:
    """Return sizes at which network and graph are to be compared, or why there are none.

    Every guard that a size near by (or twice as large) breaks is broken by one of them.
    """
    names = set(program.graph_signature.user_inputs)
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    symbols = [next(x for x in values if _is_image(x)).shape[d] for d in (0, 2, 3)]
    if any(isinstance(s, int) or not s.node.expr.is_Symbol for s in symbols[1:]):
        return "its Python code makes a constant of them"
    env = symbols[1].node.shape_env
    if len(env.guards) > _MOST_GUARDS:
        return f"tracing it found {len(env.guards)} conditions on them, too many to be tried"
    expressions = [s.node.expr if not isinstance(s, int) else None for s in symbols]
    bounds = (env.var_to_range[e].upper for e in expressions[1:])
    if any(getattr(upper, "is_finite", True) and upper < 2**31 for upper in bounds):
        return "its Python code decides by them"
    near = [
        [s + by for by in (-_WIDER, -_HIGHER, 0, 1, _HIGHER // 2, _HIGHER, s) if s + by >= 1] for s in size
    ]
    lines = [*((h, size[1]) for h in near[0]), *((size[0], w) for w in near[1]), *((h, h) for h in near[0])]
    known = {} if expressions[0] is None else {expressions[0]: batch}
    broken = {
        other: {
            number
            for number, guard in enumerate(env.guards)
            if guard.expr.subs({**known, expressions[1]: other[0], expressions[2]: other[1]}) == False  # noqa: E712
        }
        for other in lines
    }
    chosen, left = [size], set(itertools.chain.from_iterable(broken.values())) - broken.get(size, set())
    while left and len(chosen) < _MOST_RUNS:
        best = max(lines, key=lambda other: len(broken[other] & left))
        chosen.append(best)
        left -= broken[best]
    return chosen
