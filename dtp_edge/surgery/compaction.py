"""Surgery: the compact network, cut from the labels alone.

Parameters and buffers are cut by `index_select` along their labelled dimensions; literals in the graph are
recomputed by the size rules of `ops`. Where the user's own module can be cut in place and computes
the same, that is the result (see `inplace`); else the graph module is, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from dtp_edge.errors import CheckError, UnsupportedError
from dtp_edge.graph.branches import Branch
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.ops.nodes import lookup, op_name
from dtp_edge.ops.site import Kept, Site
from dtp_edge.ops.spec import specifications
from dtp_edge.surgery.closing import close_branches
from dtp_edge.surgery.compact_graph import CompactGraph, build_graph_module, plain_interface
from dtp_edge.surgery.cut import cut_all
from dtp_edge.surgery.kept import KeptIndices

# Assertions about sizes that torch.export leaves behind; true of the dense network only.
_ASSERTIONS = {
    "_assert_tensor_metadata",
    "_assert_scalar",
    "_assert_async",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
}


@dataclass
class Compact:
    """The compact network.

    `module` trains and runs: the user's own class cut in place (`kind` "module") or `graph_module` (`kind`
    "graph", with the `reason`). Both hold the same tensors until one is converted or moved; see `sync`.
    `kept` is `{tensor name: {dimension: kept indices}}`; a tensor that went with a branch has `{0: []}`.
    `branches` are the ones that went, with the addition and the operand that each was.
    """

    module: nn.Module
    kind: str
    reason: str | None
    kept: dict[str, dict[int, list[int]]]
    graph_module: CompactGraph
    example_inputs: tuple[Any, ...] = field(default=(), repr=False)
    branches: tuple[Branch, ...] = ()

    def sync(self) -> None:
        """Copy the module's parameters and buffers into the graph module where they are other objects."""
        if self.module is self.graph_module:
            return
        source = named_tensors(self.module)
        with torch.no_grad():
            for name, target in named_tensors(self.graph_module).items():
                if name in source and source[name] is not target:
                    target.data = source[name].detach().to(target.dtype).clone()


def compact(
    network: PrunableNetwork, keep: np.ndarray, *, in_place: bool = True, trains: bool = True
) -> Compact:
    """Return the network without the atoms that `keep` (bool `[n_atoms]`) drops. `network` is not changed.

    With `in_place` False only the graph is cut, which is quicker. `trains` asks of a module that was cut in
    place that it takes a training step as well; for one that is only run that is not worth its time.

    Raises `CheckError` if a dimension would be left empty or labels and operators contradict each other.
    """
    keep = np.asarray(keep, dtype=bool)
    if keep.shape != (network.n_atoms,):
        raise CheckError(
            f"shape {keep.shape} does not fit the network's {network.n_atoms} atoms",
            where="keep",
            hint="Give a bool for every atom of this very network, as `harden` returns them.",
        )
    kept = KeptIndices(network, keep)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(network.graph_module.graph, copies)
    graph.output(output)
    gone = close_branches(network, kept.keep, graph, copies)
    tensors = cut_tensors(network, kept, gone)
    graph_module = cut_graph(network, kept, tensors, graph, copies)
    result = Compact(
        graph_module,
        "graph",
        "not tried",
        kept_by_tensor(network, kept, gone),
        graph_module,
        network.example_inputs,
        tuple(network.branches[i] for i in network.depth.closed(keep)),
    )
    if in_place:
        from dtp_edge.surgery.inplace import cut_in_place

        module, reason = cut_in_place(network, kept, tensors, graph_module, trains=trains)
        result.reason = reason
        if module is not None:
            result.module, result.kind = module, "module"
    return result


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, shared ones under each of their names."""
    return own_tensors(module)


def graph_tensors(network: PrunableNetwork) -> dict[str, torch.Tensor]:
    """Return every tensor that the traced graph reads, and every one that the user's module holds."""
    found = named_tensors(network.module)
    for node in network.graph_module.graph.nodes:
        if node.op == "get_attr" and node.target not in found:
            value = lookup(network.graph_module, node.target)
            if not isinstance(value, torch.Tensor):
                raise UnsupportedError(
                    f"the traced graph holds a {type(value).__name__}, which surgery cannot cut",
                    where=node.target,
                    hint="Hold it as a tensor, or compute it outside of the network.",
                )
            found[node.target] = value
    return found


def cut_tensors(
    network: PrunableNetwork, kept: KeptIndices, gone: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Return copies of all tensors but the `gone`, cut along labelled dimensions. Shared ones stay shared."""
    dense = graph_tensors(network)
    dead = {id(dense[name]) for name in gone}
    wanted: dict[tuple[int, tuple[bytes | None, ...]], tuple[torch.Tensor, list[Kept]]] = {}
    keys = {}
    for name, tensor in dense.items():
        if id(tensor) in dead:
            continue
        indices = kept.tensor(name)
        keys[name] = (id(tensor), tuple(None if i is None else i.tobytes() for i in indices))
        wanted.setdefault(keys[name], (tensor, indices))
    done = dict(zip(wanted, cut_all(list(wanted.values())), strict=True))
    return {name: done[key] for name, key in keys.items()}


def kept_by_tensor(
    network: PrunableNetwork, kept: KeptIndices, gone: Collection[str] = ()
) -> dict[str, dict[int, list[int]]]:
    """Return `{tensor name: {dimension: kept indices}}` for every dimension that lost something.

    Dimensions that lost the same share one list. A tensor that is `gone` with a branch has `{0: []}`.
    """
    lists: dict[int, list[int]] = {}
    dense = graph_tensors(network) if gone else {}
    dead = {id(dense[name]) for name in gone}
    result: dict[str, dict[int, list[int]]] = {n: {0: []} for n, t in dense.items() if id(t) in dead}
    for name in network.tensor_labels:
        if name in result:
            continue
        cut = {}
        for dim, index in enumerate(kept.tensor(name)):
            if index is not None:
                if id(index) not in lists:
                    lists[id(index)] = index.tolist()
                cut[dim] = lists[id(index)]
        if cut:
            result[name] = cut
    return result


def cut_graph(
    network: PrunableNetwork,
    kept: KeptIndices,
    tensors: dict[str, torch.Tensor],
    graph: fx.Graph,
    copies: dict[fx.Node, fx.Node],
) -> CompactGraph:
    """Return `graph`, a copy of the traced one, with every literal recomputed, over the cut tensors.

    `copies` are its nodes by those of the traced graph.
    """
    graph.set_codegen(network.graph_module.graph._codegen)
    constants: dict[str, torch.Tensor] = {}
    for old, new in copies.items():
        if old.op == "call_module":
            raise UnsupportedError(
                "the traced graph calls a module, not an operator",
                where=old.name,
                hint="Trace the network itself with `trace_network`, not an fx graph of it.",
            )
        if old.op != "call_function":
            continue
        name = op_name(old)
        spec = specifications().get(name)
        if name in _ASSERTIONS:
            graph.erase_node(new)
        elif spec is not None and spec.size is not None:
            spec.size(Site(old, new, kept, copies, constants))
    plain_interface(graph)
    for node in graph.nodes:
        node.meta = {}
    graph.lint()
    used = {n.target for n in graph.nodes if n.op == "get_attr"}
    own = named_tensors(network.module)
    device = next((t.device for t in own.values()), torch.device("cpu"))
    held = {n: t for n, t in {**tensors, **constants}.items() if n in used}
    # index tables belong to the graph: the module was perhaps moved after it was traced
    return build_graph_module({n: t if n in own else t.to(device) for n, t in held.items()}, graph)


def put_back(network: PrunableNetwork, result: Compact) -> None:
    """Write the compact network's tensors into the dense ones at the kept indices, in place.

    After fine-tuning the compact network this makes the masked network compute the same again.
    """
    dense = graph_tensors(network)
    with torch.no_grad():
        for name, value in {**named_tensors(result.graph_module), **named_tensors(result.module)}.items():
            if name not in dense:
                continue  # an index table that surgery added
            target = dense[name]
            cut = result.kept.get(name, {})
            axes = [cut.get(d, range(size)) for d, size in enumerate(target.shape)]
            if not cut:
                target.copy_(value)
            else:
                target[np.ix_(*axes)] = value.to(target)
