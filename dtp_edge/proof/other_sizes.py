"""The compact network at other image sizes than the one it was traced at, where that is proved to be right.

The user's own module, cut in place, takes what the dense one took. A graph has the sizes of the example
written in; it is replaced by one that has not, over the same tensors.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtp_edge.errors import first_line
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.build import label_network
from dtp_edge.graph.free_sizes import image_size, trace_free_sizes
from dtp_edge.graph.leaves import call, leaves, random_like
from dtp_edge.graph.lift import own_tensors
from dtp_edge.proof.equality import check_masked_equals_compact
from dtp_edge.surgery import Compact, compact
from dtp_edge.surgery.compact_graph import build_graph_module
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error


def with_free_sizes(
    network: PrunableNetwork, keep: np.ndarray, result: Compact
) -> tuple[Compact, str | None]:
    """Return `result` with a graph that runs at other image sizes, or as it is, and what the user must know.

    Where the dense network takes no other size there is nothing to say.
    """
    size = image_size(network.example_inputs)
    if result.kind == "module" or size is None:
        return result, None
    try:
        found = _with_free_sizes(network, keep, result)
    except Exception as error:  # an attempt: whatever torch raises, the graph of one size still stands
        found = first_line(error, kind=True)
    if found is None or isinstance(found, Compact):
        return found or result, None
    fixed = (
        f"the compact network takes images of {size[0]} x {size[1]} only, though your network takes others"
    )
    return result, f"{fixed}: {found}"


def _with_free_sizes(network: PrunableNetwork, keep: np.ndarray, result: Compact) -> Compact | str | None:
    traced = trace_free_sizes(
        network.module,
        network.example_inputs,
        free_batch=network.dynamic_batch,
        length=len(network.graph_module.graph.nodes),
    )
    if traced is None or isinstance(traced, str):
        return traced
    depth = bool(network.branches)
    free = label_network(network.module, *traced, dynamic_batch=network.dynamic_batch, depth=depth)
    if free.n_atoms != network.n_atoms or _spans(free) != _spans(network):
        return "with free sizes other channels belong together"
    cut, other = (compact(free, keep, in_place=False) for _ in range(2))
    if cut.kept != result.kept:
        return "with free sizes other channels belong together"
    own = own_tensors(network.module)
    tuned = {name: t for name, t in own_tensors(result.graph_module).items() if name in own}
    held = own_tensors(cut.graph_module) | tuned
    used = {n.target for n in cut.graph_module.graph.nodes if n.op == "get_attr"}
    graph = build_graph_module({n: t for n, t in held.items() if n in used}, cut.graph_module.graph)
    inputs = random_like(network.example_inputs, seed=19)
    error = relative_error(leaves(call(result.graph_module, inputs)), leaves(call(graph, inputs)))
    if error > FLOAT32_LIMIT:
        return f"with free sizes it computes another function (relative error {error:.2g})"
    replaced = dataclasses.replace(result, module=graph, graph_module=graph)
    for randomise in (False, True):
        check = check_masked_equals_compact(free, keep, other, randomise=randomise, seeds=(0,))
        if not check.passed:
            return f"at another size {check.detail} (relative error {check.value:.2g})"
    return replaced


def _spans(network: PrunableNetwork) -> list[tuple[str, int, int]]:
    return [(group.name, group.start, group.stop) for group in network.groups]
