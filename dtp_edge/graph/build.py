"""`trace_network`: trace, label, group, and write down what the later boxes read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from dtp_edge.errors import InputError, nearest
from dtp_edge.graph.branches import Branch, Depth
from dtp_edge.graph.engine import label_graph
from dtp_edge.graph.find_branches import Finder
from dtp_edge.graph.gates import gate_sites
from dtp_edge.graph.groups import Numbering, number_atoms
from dtp_edge.graph.layer_list import LayerList
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.graph.leaves import as_tuple, leaves
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.network import Group, NodeSite, ParameterSite, PrunableNetwork, TensorLabels
from dtp_edge.graph.own_copy import with_plain_weights
from dtp_edge.graph.trace import trace
from dtp_edge.ops.values import Context, Value, values_of


def trace_network(
    model: nn.Module,
    example_inputs: tuple[Any, ...] | torch.Tensor,
    *,
    exclude: Sequence[str] = (),
    depth: bool = False,
) -> PrunableNetwork:
    """Trace a network and label every dimension of every tensor in it.

    **Arguments:**

    - `model`: traced in eval mode and left as it was found. Where it computes weights from others (weight
      norm and other parametrizations, masks of `nn.utils.prune`), a copy with plain weights takes its place.
    - `example_inputs`: the positional inputs of its forward; a batch of one is enough.
    - `exclude`: names of modules or parameters whose channels must all stay, and every branch that holds one.
    - `depth`: find branches as well, what additions can do without; each is a group of one atom, its gate.

    Raises `UnsupportedError` if torch.export cannot trace the network, `InputError` for a name in
    `exclude` that the network does not have.
    """
    _refuse_unknown(model, exclude)
    inputs = as_tuple(example_inputs)
    for tensor in inputs:
        if isinstance(tensor, torch.Tensor) and tensor.numel() == 0:
            raise InputError(
                f"an example input of shape {list(tensor.shape)} is empty",
                where="example_inputs",
                hint="Give one whole input, such as torch.randn(1, 3, 224, 224).",
            )
    model, notes = with_plain_weights(model)
    graph_module, fixed = trace(model, inputs)
    network = label_network(
        model, graph_module, inputs, dynamic_batch=fixed is None, exclude=exclude, depth=depth
    )
    network.notes = notes if fixed is None else (*notes, _shapes_stay(inputs, fixed))
    return network


def _shapes_stay(inputs: tuple[Any, ...], why: str) -> str:
    shapes = ", ".join(str(list(x.shape)) for x in leaves(inputs))
    return f"costs and files are those of the example's own shape {shapes}: {why}"


def _refuse_unknown(model: nn.Module, names: Sequence[str]) -> None:
    known = {n for n, _ in [*model.named_modules(), *model.named_parameters(remove_duplicate=False)] if n}
    for name in names:
        if name not in known:
            close = nearest(name, sorted(known))
            raise InputError(
                f"the network has no module or parameter {name!r}",
                where="exclude",
                hint=f"Nearest: {', '.join(close)}."
                if close
                else f"It has {', '.join(sorted(known)[:6])}, ...",
            )


def label_network(
    model: nn.Module,
    graph_module: fx.GraphModule,
    inputs: tuple[Any, ...],
    *,
    dynamic_batch: bool = True,
    exclude: Sequence[str] = (),
    depth: bool = False,
) -> PrunableNetwork:
    """Label a graph that is traced already."""
    ctx = label_graph(graph_module)
    parameters = _parameters(ctx, model)
    numbering = number_atoms(ctx, parameters, list(_arrays(ctx)), exclude)
    own = own_tensors(model)
    aliases = _aliases(own)
    tensor_labels = _by_every_name(aliases, parameters, numbering)
    node_labels, parts = _node_labels(ctx, numbering)
    parameter_sites, node_sites = _sites(ctx, numbering, aliases)
    found, groups = Depth(), tuple(numbering.groups)
    if depth:
        found = Finder(graph_module, _all_labels(node_labels, parts), groups, exclude).find()
        gates = gate_sites(graph_module, model, found.branches, aliases)
        parameter_sites, node_sites = (*parameter_sites, *gates[0]), (*node_sites, *gates[1])
        groups += tuple(_group_of(branch) for branch in found.branches)
    n_atoms = groups[-1].stop if groups else 0

    def layers() -> LayerGraph:
        return LayerList(graph_module, own.__contains__).build(node_labels, parts, n_atoms, found)

    return PrunableNetwork(
        module=model,
        graph_module=graph_module,
        example_inputs=inputs,
        groups=groups,
        frozen=tuple(numbering.frozen),
        tensor_labels=tensor_labels,
        node_labels=node_labels,
        parameter_sites=parameter_sites,
        node_sites=node_sites,
        layers=layers,  # type: ignore[arg-type]
        dynamic_batch=dynamic_batch,
        depth=found,
    )


def _group_of(branch: Branch) -> Group:
    return Group(f"{branch.name} branch", "branch", branch.atom, branch.atom + 1)


def _all_labels(
    single: dict[str, TensorLabels], several: dict[str, list[TensorLabels | None]]
) -> dict[str, list[TensorLabels]]:
    """Return the labels of every tensor that a node yields, by its name."""
    found = {name: [labels] for name, labels in single.items()}
    found.update((name, [part for part in parts if part is not None]) for name, parts in several.items())
    return found


def _parameters(ctx: Context, model: nn.Module) -> dict[str, Value]:
    """Return the value of every parameter and buffer that the graph reads, by its first name."""
    found: dict[str, Value] = {}
    for node, value in ctx.values.items():
        if node.op == "get_attr" and isinstance(value, Value):
            found.setdefault(str(value.source), value)
    return found


def _arrays(ctx: Context) -> Iterable[np.ndarray]:
    for value in ctx.values.values():
        for part in values_of(value):
            yield from (rows for rows in part.labels if isinstance(rows, np.ndarray))
    yield from (site.rows for site in ctx.sites)
    yield from (rows for rows, _, _ in ctx.roles)


def _final(value: Value, numbering: Numbering) -> TensorLabels:
    return tuple(numbering(rows) for rows in value.labels)


def _by_every_name(
    aliases: dict[str, list[str]], parameters: dict[str, Value], numbering: Numbering
) -> dict[str, TensorLabels]:
    """Tied parameters have one value and several names: list them all, the unlabelled ones left out."""
    found: dict[str, TensorLabels] = {}
    for source, value in parameters.items():
        labels = _final(value, numbering)
        if any(rows is not None for rows in labels):
            for name in aliases.get(source, [source]):
                found[name] = labels
    return found


def _aliases(own: dict[str, torch.Tensor]) -> dict[str, list[str]]:
    """Return, for every parameter and buffer, all the names that its tensor has."""
    names: dict[int, list[str]] = {}
    for name, tensor in own.items():
        names.setdefault(id(tensor), []).append(name)
    return {name: names[id(tensor)] for name, tensor in own.items()}


def _node_labels(
    ctx: Context, numbering: Numbering
) -> tuple[dict[str, TensorLabels], dict[str, list[TensorLabels | None]]]:
    single: dict[str, TensorLabels] = {}
    several: dict[str, list[TensorLabels | None]] = {}
    for node, value in ctx.values.items():
        if isinstance(value, Value):
            single[node.name] = _final(value, numbering)
        elif isinstance(value, list):
            several[node.name] = [_final(v, numbering) if isinstance(v, Value) else None for v in value]
    return single, several


def _sites(
    ctx: Context, numbering: Numbering, aliases: dict[str, list[str]]
) -> tuple[tuple[ParameterSite, ...], tuple[NodeSite, ...]]:
    parameters: dict[tuple[str, int], ParameterSite] = {}
    nodes: dict[tuple[str, str, int, int], NodeSite] = {}
    for site in ctx.sites:
        atoms = numbering(site.rows)
        if atoms is None:
            continue
        if site.kind == "parameter":
            for name in aliases.get(site.target, [site.target]):
                parameters.setdefault((name, site.dim), ParameterSite(name, site.dim, atoms))
        else:
            key = (site.target, site.kind, site.argument, site.dim)
            nodes.setdefault(key, NodeSite(site.target, site.kind, site.argument, site.dim, atoms))
    return tuple(parameters.values()), tuple(nodes.values())
