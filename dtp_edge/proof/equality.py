"""The proof that surgery was right: the masked dense network and the compact one compute the same.

Trained weights can hide an error (zero-initialised heads, norms at their defaults, dead channels), so the
proof is also made on copies in which every weight and every norm statistic is random.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import first_line
from dtp_edge.graph import MaskedNetwork, mode_of
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.ops.nodes import lookup
from dtp_edge.proof.check import Check
from dtp_edge.proof.departure import first_difference
from dtp_edge.surgery.compact_graph import aten
from dtp_edge.surgery.compaction import Compact, compact, graph_tensors
from dtp_edge.surgery.difference import FLOAT32_LIMIT, FLOAT64_LIMIT, relative_error

# A network whose weights magnify rounding (saturated attention, random residual streams) differs by more than
# 1e-4 in float32 between two orders of summation, and one that picks the best (top-k) by any amount. Then
# float64 decides, with the same magnification allowed.
MAGNIFIED_LIMIT = 1e-8


def check_masked_equals_compact(
    network: PrunableNetwork,
    keep: np.ndarray,
    result: Compact,
    *,
    seeds: Sequence[int] = (0, 1),
    randomise: bool = False,
    dtype: torch.dtype = torch.float32,
    limit: float | None = None,
) -> Check:
    """Compare the masked network with the compact one in eval mode on random inputs.

    With `randomise` the same surgery is done on a copy with random weights and norm statistics; `result` then
    only says whether the module was cut in place. With another `dtype` both are compared in that precision.
    The limit is 1e-4 of the output's scale in float32, 1e-9 in float64; where float32 is not enough to tell
    (the network magnifies rounding), float64 decides.
    """
    name = "masked == compact" + (", random weights" if randomise else "")
    limit = limit or (FLOAT64_LIMIT if dtype == torch.float64 else FLOAT32_LIMIT)
    keep = np.asarray(keep, dtype=bool)
    converted = None if dtype == torch.float32 else dtype
    if randomise or converted is not None:
        network = copied_network(network, dtype=converted)
    if randomise:
        randomise_tensors(network, seed=seeds[0] if seeds else 0)
        in_place = result.kind == "module" and converted is None
        result = compact(network, keep, in_place=in_place, trains=False)  # it was asked of the user's weights
    elif converted is not None:
        result = _converted(result, converted)
    masked = MaskedNetwork(network, keep)
    try:
        worst, detail = _worst(masked, result, network, seeds, converted)
    except Exception as error:  # whatever an operator or the user's code raises
        worst, detail = float("inf"), f"a network raises {first_line(error, kind=True)}"
    passed = worst <= limit
    if not passed and converted is None and math.isfinite(worst):
        return _in_double(name, network, keep, result, seeds, worst)
    if not passed:
        detail += "; " + (first_difference(network, keep, result.graph_module) or "all shapes agree")
    return Check(name, passed, worst, limit, detail)


def _converted(result: Compact, dtype: torch.dtype) -> Compact:
    """Return a copy of the compact network, with the weights that it has now, in another precision."""
    module = copy.deepcopy(result.module).to(dtype)
    graph_module = module if result.module is result.graph_module else copy.deepcopy(result.graph_module)
    graph_module = graph_module.to(dtype)
    convert_literals(graph_module, dtype)
    return dataclasses.replace(result, module=module, graph_module=graph_module)


def _in_double(
    name: str,
    network: PrunableNetwork,
    keep: np.ndarray,
    result: Compact,
    seeds: Sequence[int],
    single: float,
) -> Check:
    """Decide in float64 whether a float32 difference is rounding that the network magnifies.

    Rounding falls with the precision, by nine orders of magnitude; a wrong cut does not.
    """
    try:
        double = check_masked_equals_compact(
            network, keep, result, seeds=seeds, dtype=torch.float64, limit=MAGNIFIED_LIMIT
        )
    except Exception as error:  # source code that names float32: the difference cannot be excused
        return Check(
            name, False, single, FLOAT32_LIMIT, f"and float64 does not run: {first_line(error, kind=True)}"
        )
    why = f"{double.detail}; in float64, because float32 differs by {single:.1e}"
    return dataclasses.replace(double, name=name, detail=why)


def _worst(
    masked: nn.Module,
    result: Compact,
    network: PrunableNetwork,
    seeds: Sequence[int],
    dtype: torch.dtype | None,
) -> tuple[float, str]:
    """Return the largest relative error over the seeds, and what was compared."""
    modules = (
        [result.graph_module]
        if result.module is result.graph_module
        else [result.module, result.graph_module]
    )
    worst = 0.0
    with torch.no_grad(), hushed(), mode_of(masked, network.module, *modules, training=False):
        for seed in seeds:
            inputs = random_like(network.example_inputs, seed, dtype)
            wanted = leaves(masked(*inputs))
            for m in modules:
                worst = max(worst, relative_error(wanted, leaves(m(*inputs))))
    return worst, f"{len(seeds)} random inputs"


def copied_network(network: PrunableNetwork, *, dtype: torch.dtype | None = None) -> PrunableNetwork:
    """Return a copy of the network whose module and graph share their tensors, as in the original.

    With a `dtype` the copy computes in it, on the traced graph (user code may name float32).
    """
    memo: dict[int, Any] = {}
    module = copy.deepcopy(network.module, memo)
    graph_module = copy.deepcopy(network.graph_module, memo)
    for name, tensor in graph_tensors(network).items():  # deepcopy may copy shared tensors twice
        twin = memo.get(id(tensor))
        if twin is not None and isinstance(twin, torch.Tensor):
            _assign(graph_module, name, twin)
    inputs = network.example_inputs
    if dtype is not None:
        module, graph_module = module.to(dtype), graph_module.to(dtype)
        convert_literals(graph_module, dtype)
        for n in graph_module.graph.nodes:
            if n.op == "get_attr":
                value = lookup(graph_module, n.target)
                if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                    _assign(graph_module, n.target, value.to(dtype))
        inputs = pytree.tree_map_only(
            torch.Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, inputs
        )
        module = graph_module
    return dataclasses.replace(network, module=module, graph_module=graph_module, example_inputs=inputs)


def _assign(root: nn.Module, name: str, value: torch.Tensor) -> None:
    *path, last = name.split(".")
    try:
        owner = lookup(root, ".".join(path)) if path else root
        current = getattr(owner, last)
    except AttributeError:
        return  # the graph does not read it
    if current is not value:
        if isinstance(current, nn.Parameter) and not isinstance(value, nn.Parameter):
            value = nn.Parameter(value, requires_grad=current.requires_grad)
        setattr(owner, last, value)


def in_double(module: nn.Module) -> nn.Module:
    """Return a copy that computes in float64, with the literals of its graph if it is one."""
    double = copy.deepcopy(module).double()
    if isinstance(double, fx.GraphModule):
        convert_literals(double, torch.float64)
    return double


def convert_literals(graph_module: Any, dtype: torch.dtype) -> None:
    """Make a graph module create and convert to `dtype` where its literals name float32, in place."""

    def swap(value: Any) -> Any:
        return dtype if value == torch.float32 else value

    for node in graph_module.graph.nodes:
        if node.target is aten._assert_tensor_metadata.default:
            continue
        node.args = tuple(swap(a) if isinstance(a, torch.dtype) else a for a in node.args)
        node.kwargs = {k: swap(v) if isinstance(v, torch.dtype) else v for k, v in node.kwargs.items()}
        if node.op == "call_function" and node.target in _FACTORIES and node.kwargs.get("dtype") is None:
            node.kwargs = {**node.kwargs, "dtype": dtype}
    for node in [n for n in graph_module.graph.nodes if n.target is aten._assert_tensor_metadata.default]:
        graph_module.graph.erase_node(node)
    graph_module.recompile()


_FACTORIES = {aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.rand.default}


def randomise_tensors(network: PrunableNetwork, seed: int = 0) -> None:
    """Give every floating-point parameter and every norm statistic of `network` a random value, in place.

    Weights are scaled by their fan-in, so that activations stay near 1 through the network; other buffers
    (index tables, masks, coordinate grids) are part of the architecture and stay.
    """
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in graph_tensors(network).items():
            if id(tensor) in done or not tensor.is_floating_point():
                continue
            done.add(id(tensor))
            fresh = _random_value(name.rsplit(".", 1)[-1], tensor, generator)
            if fresh is not None:
                tensor.copy_(fresh)


def _random_value(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    if name == "running_mean":
        return 0.3 * noise
    if name == "running_var":
        return 0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    if not isinstance(tensor, nn.Parameter):
        return None
    if tensor.ndim >= 2:
        fan_in = max(1, tensor[0].numel())
        return noise / fan_in**0.5
    if "bias" in name or name == "beta":
        return 0.2 * noise
    return 0.6 + 0.8 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
