"""A stored compact network as the user's own class: what a trainer of that class goes on with.

The folder holds a graph, which needs no class. Given a network like the dense one was, that is cut again, in
place, to the kept indices that the folder names, and given the stored weights; it must compute what the graph
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.own_copy import own_copy
from dtp_edge.surgery.compact_graph import CompactGraph
from dtp_edge.surgery.inplace import cut_in_place
from dtp_edge.surgery.kept import KeptIndices

__all__ = ["in_class_of"]

_HINT = "Leave `like` out: the graph trains and runs as well."


def in_class_of(model: nn.Module, graph: CompactGraph, document: Mapping[str, Any]) -> nn.Module:
    """Return the compact network as a module of `model`'s class; `document` is what `widths.json` holds.

    **Raises:** `InputError` where `model` is another network, or its class cannot hold these widths.
    """
    own, _ = own_copy(model)
    if (library := library_of(own)) is not None:
        library.prepare(own)
    inputs = tuple(
        torch.zeros(entry["shape"], dtype=getattr(torch, entry["dtype"])) for entry in document["inputs"]
    )
    network = trace_network(own, inputs, depth="branches" in document)
    kept = KeptIndices(network, _keep(network, document))
    stored, tensors = own_tensors(graph), dict[str, torch.Tensor]()
    for name, tensor in own_tensors(own).items():
        dims = document["kept"].get(name, {})
        if dims.get("0") == []:
            continue
        cut = tensor.detach()
        for dim, indices in dims.items():
            cut = cut.index_select(int(dim), torch.tensor(indices, dtype=torch.int64))
        found = stored.get(name, cut)
        if found.shape != cut.shape:
            raise InputError(
                f"the network is another one: {name} would be {list(cut.shape)}, the folder has it as "
                f"{list(found.shape)}",
                where="like",
                hint="Build it as the one that was pruned, with as many classes.",
            )
        held = found.detach().clone()
        tensors[name] = nn.Parameter(held) if isinstance(tensor, nn.Parameter) else held
    module, reason = cut_in_place(network, kept, tensors, graph)
    if module is None:
        raise InputError(
            f"{type(model).__name__} cannot hold these widths: {reason}", where="like", hint=_HINT
        )
    if library is not None:
        library.restore(module)
    return module


def _keep(network: PrunableNetwork, document: Mapping[str, Any]) -> np.ndarray:
    """Return which atoms stay: those of every index that a tensor still has, and the open gates."""
    keep = np.zeros(network.n_atoms + 1, dtype=bool)
    gates = [branch.atom for branch in network.branches]
    for name, labels in network.tensor_labels.items():
        dims = document["kept"].get(name, {})
        if dims.get("0") == []:
            continue
        for dim, atoms in enumerate(labels):
            if atoms is not None:
                indices = dims.get(str(dim), range(len(atoms)))
                if len(indices) and max(indices) >= len(atoms):
                    raise InputError(
                        f"the network is another one: {name} is smaller", where="like", hint=_HINT
                    )
                keep[atoms[np.asarray(indices, dtype=np.int64)]] = True
    open_gates = {row["name"]: bool(row["kept"]) for row in document.get("branches", [])}
    for branch, atom in zip(network.branches, gates, strict=True):
        keep[atom] = open_gates.get(branch.name, True)
    return network.settled(keep[:-1])
