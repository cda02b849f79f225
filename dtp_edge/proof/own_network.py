"""The first link of the chain: the traced graph, uncut, computes what the user's own module computes.

Everything later is compared with that graph, so a fault of the tracing, of a rewrite of the graph or of a
weight that was folded would pass every later proof.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import UnsupportedError, first_line
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.as_found import left_as_found
from dtp_edge.graph.leaves import call, in_float64, leaves, random_like
from dtp_edge.graph.own_copy import unwrapped
from dtp_edge.graph.trace import as_in_a_plain_process
from dtp_edge.proof.check import Check
from dtp_edge.proof.equality import MAGNIFIED_LIMIT, copied_network
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error

NAME = "your network == traced"
_EXAMPLE, _NOISE, _WIDE = "example", "noise", "wide noise"
_TIMES = 8.0  # how much wider


def check_traced_equals_own(model: nn.Module, network: PrunableNetwork) -> Check:
    """Compare the uncut graph with the user's own module in eval mode, on the example and on noise.

    Outputs must agree in structure, shapes, types and values; `model` is left as it was found. Where float32
    differs by more than 1e-4 of an output's scale, float64 decides. Noise of eight times the usual size
    reaches bounds that the example does not (the 6 of a ReLU6); it counts where the outputs are finite.

    Raises `UnsupportedError` for a module that no proof can hold for: random in eval mode, writing to its
    buffers in eval mode, with outputs that are complex or no tensors.
    """
    model = unwrapped(model)
    apart: dict[str, float] = {}
    with as_in_a_plain_process(model), left_as_found(model):
        for name, inputs in _probes(network.example_inputs).items():
            try:
                wanted = _checked(model, inputs) if name == _EXAMPLE else call(model, inputs)
            except UnsupportedError:
                raise
            except Exception as error:  # whatever the user's code raises
                if name == _EXAMPLE:
                    return _failed(f"your network raises {first_line(error, kind=True)}")
                continue
            try:
                found = call(network.graph_module, inputs)
            except Exception as error:  # whatever an operator of the graph raises
                return _failed(f"the graph raises {first_line(error, kind=True)}")
            if why := _other_form(wanted, found):
                return _failed(why)
            if name != _WIDE or all(bool(x.isfinite().all()) for x in leaves(wanted)):
                pair = leaves(wanted), leaves(found)
                apart[name] = relative_error(*pair) if pair[0] else 0.0
    detail = "the example and random inputs"
    if _NOISE not in apart:
        detail = "the example (the network itself does not run on noise)"
    if max(apart.values()) <= FLOAT32_LIMIT:
        return Check(NAME, True, max(apart.values()), FLOAT32_LIMIT, detail)
    return _in_double(model, network, apart, detail)


def _probes(example_inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Return the inputs to compare on by name."""
    found = {_EXAMPLE: example_inputs, _NOISE: random_like(example_inputs, 3)}
    if any(x.is_floating_point() for x in leaves(example_inputs)):
        found[_WIDE] = pytree.tree_map_only(
            torch.Tensor, lambda x: x * _TIMES if x.is_floating_point() else x, random_like(example_inputs, 4)
        )
    return found


def _failed(why: str) -> Check:
    return Check(NAME, False, float("inf"), FLOAT32_LIMIT, why)


def _checked(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Return the outputs of the user's module, the same in two runs with other random numbers."""
    before = {name: b.detach().clone() for name, b in model.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = call(model, inputs)
        changed = [n for n, b in model.named_buffers() if n in before and not _same(b, before[n])]
        if changed:
            raise UnsupportedError(
                "the network writes to this buffer in eval mode, so that one call changes the next",
                where=changed[0],
                hint="Let it write in train mode only, or take the state as an input and return it.",
            )
        torch.manual_seed(2)
        again = call(model, inputs)
    numbers = leaves(first)
    if any(x.is_complex() for x in numbers):
        raise UnsupportedError(
            "the network returns complex numbers, which ONNX cannot represent",
            where=type(model).__name__,
            hint="Return torch.view_as_real of them.",
        )
    others = [x for x in pytree.tree_leaves(first) if not isinstance(x, (torch.Tensor, type(None)))]
    if others:
        raise UnsupportedError(
            f"the network returns a {type(others[0]).__name__} ({str(others[0])[:40]}) among its outputs, "
            "which a file cannot",
            where=type(model).__name__,
            hint="Return tensors alone.",
        )
    gap = relative_error(numbers, leaves(again)) if numbers else 0.0
    if gap > FLOAT32_LIMIT:
        raise UnsupportedError(
            f"the network draws random numbers in eval mode (two runs on one input differ by {gap:.2g}), so "
            "nothing can be proved equal to it",
            where=type(model).__name__,
            hint="Draw them in train mode only (F.dropout with training=self.training), or take them as an "
            "input.",
        )
    return first


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _other_form(wanted: Any, found: Any) -> str | None:
    """Return how two outputs differ besides their values, None if they do not."""
    ours, theirs = pytree.tree_flatten(found), pytree.tree_flatten(wanted)
    if ours[1] != theirs[1]:
        return f"the graph returns {_short(ours[1])}, your network {_short(theirs[1])}"
    for number, (mine, yours) in enumerate(zip(ours[0], theirs[0], strict=True)):
        if isinstance(yours, torch.Tensor) != isinstance(mine, torch.Tensor):
            return f"output {number} is {type(mine).__name__} in the graph, {type(yours).__name__} in yours"
        if isinstance(yours, torch.Tensor):
            if mine.shape != yours.shape:
                return f"output {number} has shape {list(mine.shape)}, your network's {list(yours.shape)}"
            if mine.dtype != yours.dtype:
                return f"output {number} is {mine.dtype}, your network's {yours.dtype}"
        elif mine != yours:
            return f"output {number} is {mine!r}, your network's {yours!r}"
    return None


def _short(spec: pytree.TreeSpec) -> str:
    text = str(spec).replace("*", "tensor")
    return text if len(text) < 200 else f"{text[:200]} …"


def _in_double(model: nn.Module, network: PrunableNetwork, apart: dict[str, float], detail: str) -> Check:
    """Decide in float64 whether a difference is rounding that the network magnifies; on every input."""
    single = max(apart.values())
    try:
        double = copy.deepcopy(model).double().eval()
        graph: fx.GraphModule = copied_network(network, dtype=torch.float64).graph_module
        error = 0.0
        for name, inputs in _probes(network.example_inputs).items():
            if name in apart:
                exact = in_float64(inputs)
                error = max(error, relative_error(leaves(call(double, exact)), leaves(call(graph, exact))))
    except Exception as problem:  # source code that names float32: the difference cannot be excused
        usual = max(value for name, value in apart.items() if name != _WIDE)
        if usual <= FLOAT32_LIMIT:  # wide noise magnifies rounding where the usual size does not
            return Check(NAME, True, usual, FLOAT32_LIMIT, detail)
        why = f"{detail}; float64 does not run: {first_line(problem, kind=True)}"
        return Check(NAME, False, single, FLOAT32_LIMIT, why)
    why = f"{detail}; in float64, because float32 differs by {single:.1e}"
    return Check(NAME, error <= MAGNIFIED_LIMIT, error, MAGNIFIED_LIMIT, why)
