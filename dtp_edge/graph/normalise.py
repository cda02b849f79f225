"""Rewrite a traced graph into an equal one that says more clearly what it does.

Four rewrites, none of which changes a number: an operator that has several names goes by one; a size that
is computed from the batch becomes -1 in reshapes; attention states the scale of its dense heads; a chain of
reshapes and transpositions that only permutes the indices of one dimension (channel shuffle) becomes one
look-up by a constant index, so that the shuffle does not tie its channels together.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import fx

from dtp_edge.ops.nodes import evaluate, op_name
from dtp_edge.ops.spec import canonical, spec_of


def normalise(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Apply the rewrites in place and return the graph module."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        _name_as_known(node)
        name = op_name(node)
        if name in ("view", "reshape", "_unsafe_view"):
            _infer_batch(node)
        elif name == "scaled_dot_product_attention":
            _state_scale(node)
    _replace_shuffles(graph_module)
    for node in reversed(list(graph_module.graph.nodes)):
        if not node.users and not _has_effect(node):
            graph_module.graph.erase_node(node)
    graph_module.recompile()
    return graph_module


def write_numbers(graph_module: fx.GraphModule, own: Container[str]) -> None:
    """Write a number that is taken out of a constant (`strides[0].item()`) into the graph, in place.

    Only of tensors that are no parameters or buffers of the model (`own`): those may change.
    """
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and op_name(node) == "item":
            if any(n.op == "get_attr" and str(n.target) in own for n in _sources(node)):
                continue
            value = evaluate(node.args[0], graph_module)  # type: ignore[arg-type]
            if value is not None and value.size == 1:
                number = value.item()
                for user in list(node.users):
                    user.args, user.kwargs = fx.map_arg(
                        (user.args, user.kwargs), lambda n, old=node, new=number: new if n is old else n
                    )


def _sources(node: fx.Node) -> Iterator[fx.Node]:
    """Yield everything that a node is computed from."""
    todo = [node]
    while todo:
        todo += (found := todo.pop().all_input_nodes)
        yield from found


def _has_effect(node: fx.Node) -> bool:
    """In-place operators and inputs stay; everything else without a reader can go."""
    return node.op in ("placeholder", "output") or (
        node.op == "call_function" and op_name(node).endswith("_")
    )


def _name_as_known(node: fx.Node) -> None:
    """clip(x, 0, 6) -> clamp(x, 0, 6), where an overload of the known name takes the same arguments."""
    known = canonical(op_name(node))
    if known == op_name(node) or not isinstance(node.target, torch._ops.OpOverload):
        return
    given = node.target._schema.arguments
    packet = getattr(torch.ops.aten, known)
    for overload in (getattr(packet, name) for name in packet.overloads()):
        wanted = overload._schema.arguments
        same = [str(a.type) for a in wanted[: len(given)]] == [str(a.type) for a in given]
        if same and all(a.has_default_value() for a in wanted[len(given) :]):
            names = {a.name: b.name for a, b in zip(given, wanted, strict=False)}
            node.target, node.kwargs = overload, {names[k]: v for k, v in node.kwargs.items()}
            return


def _infer_batch(node: fx.Node) -> None:
    """view(x, [5, batch * 4, 4]) -> view(x, [5, -1, 4]): the literals that stay are those of the network."""
    if len(node.args) < 2 or not isinstance(node.args[1], (list, tuple)):
        return
    sizes = list(node.args[1])
    computed = [i for i, s in enumerate(sizes) if isinstance(s, fx.Node)]
    if len(computed) == 1 and all(s != -1 for s in sizes if isinstance(s, int)):
        sizes[computed[0]] = -1
        node.update_arg(1, sizes)


def _state_scale(node: fx.Node) -> None:
    if node.kwargs.get("scale") is None and len(node.args) < 7:
        width = node.args[0].meta["val"].shape[-1]  # type: ignore[union-attr]
        if isinstance(width, int):
            node.update_kwarg("scale", 1.0 / math.sqrt(width))


def _replace_shuffles(graph_module: fx.GraphModule) -> None:
    count = 0
    done: set[fx.Node] = set()
    for node in list(graph_module.graph.nodes):
        if node in done or not _moves(node):
            continue
        chain = _chain(node)
        end = _same_shape_end(node, chain)
        if end is None:
            continue
        found = _as_look_up(node, chain[: chain.index(end) + 1])
        if found is None:
            continue
        dim, index = found
        source: Any = node.args[0]
        with graph_module.graph.inserting_before(end):
            if torch.equal(index, torch.arange(len(index))):
                replacement = source
                if any(_may_copy(n) for n in chain[: chain.index(end) + 1]):
                    # one of the two may be written in place, and the other must not change
                    replacement = graph_module.graph.call_function(torch.ops.aten.clone.default, (source,))
                    replacement.meta = dict(end.meta)
            else:
                name = f"_shuffle_index_{count}"
                count += 1
                graph_module.register_buffer(name, index, persistent=False)
                constant = graph_module.graph.get_attr(name)
                constant.meta["val"] = index
                replacement = graph_module.graph.call_function(
                    torch.ops.aten.index_select.default, (source, dim, constant)
                )
                replacement.meta = dict(end.meta)
        done.update(chain)
        end.replace_all_uses_with(replacement)


def _moves(node: fx.Node) -> bool:
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    name = op_name(node)
    spec = spec_of(name)
    return spec is not None and spec.moves and not name.endswith("_")


def _may_copy(node: fx.Node) -> bool:
    spec = spec_of(op_name(node))
    return spec is None or spec.memory != "view"


def _chain(node: fx.Node) -> list[fx.Node]:
    """Return the node and the moves after it, as long as nothing else reads what is between."""
    chain = [node]
    while len(chain[-1].users) == 1:
        following = next(iter(chain[-1].users))
        if not _moves(following) or following.args[0] is not chain[-1]:
            break
        chain.append(following)
    return chain


def _same_shape_end(start: fx.Node, chain: list[fx.Node]) -> fx.Node | None:
    """Return the last node of the chain that has the shape that the chain began with."""
    if len(chain) < 3 or not any(op_name(n) in ("permute", "transpose") for n in chain):
        return None
    shape = start.args[0].meta["val"].shape if "val" in start.args[0].meta else None  # type: ignore[union-attr]
    for node in reversed(chain):
        if shape is not None and str(tuple(node.meta["val"].shape)) == str(tuple(shape)):
            return node if chain.index(node) >= 2 else None
    return None


def _as_look_up(start: fx.Node, chain: list[fx.Node]) -> tuple[int, torch.Tensor] | None:
    """Return (dim, index) if the chain is x.index_select(dim, index), found by moving numbers."""
    shape = [_hint(s) for s in start.args[0].meta["val"].shape]  # type: ignore[union-attr]
    before = torch.arange(math.prod(shape), dtype=torch.int32).reshape(shape)
    moved = before
    try:
        for node in chain:
            args = fx.map_arg(node.args[1:], lambda n: _hint(n.meta["val"]))
            moved = node.target(moved.contiguous(), *args, **node.kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, KeyError):
        return None
    for dim, size in enumerate(shape):
        stride = math.prod(shape[dim + 1 :])
        index = (moved.movedim(dim, -1).reshape(-1, size)[0] // stride) % size
        if torch.equal(before.index_select(dim, index.long()), moved):
            return dim, index.long()
    return None


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)
