"""Run a network under a mask, without changing it: `functional_call` on scaled parameters.

Where a mask must act on an activation (attention's q.k) or inside a statistic (layer norm over
prunable channels), a copy of the traced graph is run that has these masks in it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.graph.leaves import as_tuple
from dtp_edge.graph.modes import bind_mode
from dtp_edge.graph.network import IndexAtoms, NodeSite, PrunableNetwork
from dtp_edge.ops.nodes import op_name
from dtp_edge.ops.spec import spec_of


class Factors:
    """The mask of every index of many sites, a product over its atoms; the indices are made once."""

    def __init__(self, arrays: Sequence[IndexAtoms], n_atoms: int, device: torch.device) -> None:
        depth = max((a.shape[1] for a in arrays), default=1)
        rows = np.full((sum(len(a) for a in arrays), depth), n_atoms, dtype=np.int64)
        self._sizes = [len(a) for a in arrays]
        start = 0
        for atoms in arrays:
            rows[start : start + len(atoms), : atoms.shape[1]] = np.where(atoms < 0, n_atoms, atoms)
            start += len(atoms)
        self._columns = [torch.as_tensor(rows[:, k], device=device) for k in range(depth)]

    def __call__(self, mask: Tensor) -> tuple[Tensor, ...]:
        padded = torch.cat([mask, mask.new_ones(1)])
        product = padded[self._columns[0]]
        for column in self._columns[1:]:
            product = product * padded[column]
        return product.split(self._sizes)


def _factors(network: PrunableNetwork, kind: str, mask: Tensor) -> tuple[Tensor, ...]:
    """Return the factors of all sites of the network, made by cached indices."""
    cache, key = network.masking_cache, ("factors", kind, mask.device)
    if key not in cache:
        sites = network.parameter_sites if kind == "parameter" else network.node_sites
        cache[key] = Factors([s.atoms for s in sites], network.n_atoms, mask.device)
    return cache[key](mask)


def scaled_parameters(
    network: PrunableNetwork, mask: Tensor, named_parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the parameters that read prunable channels, scaled by the masks of what they read.

    `mask` is `[n_atoms]`. Differentiable in the mask and the parameters. Names that no site touches are
    returned as they are.
    """
    found = dict(named_parameters)
    if not network.parameter_sites:
        return found
    for site, factors in zip(network.parameter_sites, _factors(network, "parameter", mask), strict=True):
        weight = found.get(site.tensor)
        if weight is None:  # a second name of a tied parameter that the caller lists once
            continue
        shape = [1] * weight.dim()
        shape[site.dim] = -1
        found[site.tensor] = weight * factors.to(weight.dtype).reshape(shape)
    return found


def masked_forward(
    network: PrunableNetwork,
    module: nn.Module | None,
    mask: Tensor,
    inputs: Any,
    parameters: Mapping[str, Tensor] | None = None,
) -> Any:
    """Return the outputs of the network under a mask `[n_atoms]`, differentiable in mask and parameters.

    Runs `module` (default: the network's own) in its present mode. `parameters` (default: those of the
    module) may also hold buffers.
    """
    module = module or network.module
    if parameters is None:
        parameters = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
    inputs = as_tuple(inputs)
    tensors = scaled_parameters(network, mask, parameters)
    if not network.node_sites:
        return torch.func.functional_call(module, tensors, inputs, tie_weights=False)
    graph = masked_graph(network, module.training)
    for index, factors in enumerate(_factors(network, "node", mask)):
        tensors[f"mask_site_{index}"] = factors
    names = {n for n, _ in graph.named_parameters(remove_duplicate=False)}
    names |= {n for n, _ in graph.named_buffers(remove_duplicate=False)}
    used = {k: v for k, v in tensors.items() if k in names}
    used |= {  # constants of the graph, which the module does not move with it
        n: b.to(mask.device) for n, b in graph.named_buffers() if n not in used and b.device != mask.device
    }
    return torch.func.functional_call(graph, used, inputs, tie_weights=False)


def masked_graph(network: PrunableNetwork, training: bool) -> fx.GraphModule:
    """Return the copy of the graph that multiplies by `mask_site_<i>` where a site asks for it."""
    cache, key = network.masking_cache, ("graph", training)
    if key not in cache:
        graph_module = copy_graph(network.graph_module)
        nodes = {node.name: node for node in graph_module.graph.nodes}
        norms: dict[str, list[tuple[int, NodeSite]]] = {}
        for index, site in enumerate(network.node_sites):
            graph_module.register_buffer(f"mask_site_{index}", torch.ones(len(site.atoms)), persistent=False)
            if site.kind == "multiply":
                _insert_multiply(graph_module.graph, nodes[site.node], site, index)
            else:
                norms.setdefault(site.node, []).append((index, site))
        for name, sites in norms.items():
            _replace_norm(graph_module.graph, nodes[name], sites)
        bind_mode(graph_module.graph)
        graph_module.recompile()
        graph_module.training = training
        cache[key] = graph_module
    return cache[key]


def copy_graph(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Return a graph module with a graph of its own over the same parameters and buffers."""
    memo = {id(t): t for t in (*graph_module.parameters(), *graph_module.buffers())}
    return copy.deepcopy(graph_module, memo)


def multiply_along(x: Tensor, factors: Tensor, dim: int) -> Tensor:
    """Multiply x along one dimension."""
    shape = [1] * x.dim()
    shape[dim] = -1
    return x * fitted(factors, x.shape[dim]).reshape(shape).to(x.dtype)


def fitted(factors: Tensor, size: int) -> Tensor:
    """Fit factors of the traced batch to a dimension that holds another batch (batch outermost)."""
    if len(factors) == size:
        return factors
    return factors.repeat(-(-size // len(factors)))[:size]


def _insert_multiply(graph: fx.Graph, node: fx.Node, site: NodeSite, index: int) -> None:
    position = -1
    flat: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), flat.append)
    with graph.inserting_before(node):
        factors = graph.get_attr(f"mask_site_{index}")
        product = graph.call_function(multiply_along, (flat[site.argument], factors, site.dim))

    def replace(source: fx.Node) -> fx.Node:
        nonlocal position
        position += 1
        return product if position == site.argument else source

    node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), replace)


def _replace_norm(graph: fx.Graph, node: fx.Node, sites: list[tuple[int, NodeSite]]) -> None:
    spec = spec_of(op_name(node))
    if spec is None or spec.masked is None:
        raise CheckError(
            f"{op_name(node)} takes statistics over channels and has no masked form",
            where=node.name,
            hint=REPORT,
        )
    with graph.inserting_before(node):
        factors = {site.dim: graph.get_attr(f"mask_site_{index}") for index, site in sites}
    node.kwargs = {**node.kwargs, "factors": list(factors.values()), "factor_dims": list(factors)}
    node.target = spec.masked


class MaskedNetwork(nn.Module):
    """The original network with hard masks: computes what the compact network computes.

    `keep` is a boolean array `[n_atoms]`. Behind a closed gate everything runs, over all its channels.
    """

    mask: Tensor

    def __init__(self, network: PrunableNetwork, keep: np.ndarray) -> None:
        super().__init__()
        self.module = network.module
        self._network = [network]  # in a list: not a submodule
        dtype = next((p.dtype for p in network.module.parameters()), torch.float32)
        self.register_buffer(
            "mask", torch.as_tensor(network.opened(np.asarray(keep, dtype=np.float64))).to(dtype)
        )

    def forward(self, *inputs: Any) -> Any:
        return masked_forward(self._network[0], self.module, self.mask, inputs)
