"""In-place writes and repeated activations: what must be known before an addition can be taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from dtp_edge.ops.nodes import arguments_of, op_name
from dtp_edge.ops.spec import canonical, spec_of

_BOUNDED = ("hardtanh", "relu6", "clamp", "clamp_min")
_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hardsigmoid", "softmax", "abs", "square", "exp")
_KEEPS_RANGE = ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d")


def writes(node: fx.Node) -> bool:
    """Whether a node writes to its first argument."""
    name = op_name(node)
    return node.op == "call_function" and name.endswith("_") and not name.endswith("__")


def shares_storage(node: fx.Node) -> bool:
    """Whether a node's result may lie in the storage of its first argument."""
    if node.op != "call_function":
        return False
    spec = spec_of(op_name(node))
    return writes(node) or op_name(node) == "getitem" or (spec is not None and spec.memory != "new")


def storage_root(node: fx.Node) -> fx.Node:
    """Return the node that made the storage that a node's value may lie in."""
    while shares_storage(node) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def written_later(node: fx.Node) -> bool:
    """Whether someone writes in place to the value of `node`, or to a view of it."""
    stack, seen = [node], {node}
    while stack:
        for user in stack.pop().users:
            if user in seen or not user.args or not shares_storage(user):
                continue
            if storage_root(user) is not storage_root(node):
                continue
            if writes(user):
                return True
            seen.add(user)
            stack.append(user)
    return False


def written_outside(nodes: Sequence[fx.Node]) -> fx.Node | None:
    """Return a node that writes to storage that nodes outside of the given ones hold."""
    inside = set(nodes)
    for node in nodes:
        if writes(node) and storage_root(node) not in inside:
            return node
    return None


def repeated_activations(addition: fx.Node, stays: fx.Node) -> list[fx.Node]:
    """Return the activation behind an addition if it does nothing to what stays: relu of a relu's output."""
    following = list(addition.users)
    if len(following) == 1 and following[0].op == "call_function" and _idle(following[0], stays):
        return following
    return []


def _idle(act: fx.Node, value: fx.Node) -> bool:
    """Whether an activation returns `value` as it is, by what made that value."""
    wanted = _bounds(act)
    while wanted is not None and value.op == "call_function":
        name = _name(value)
        low, high = wanted
        if high is None and low == 0 and name in _NOT_NEGATIVE:
            return True
        given = _bounds(value)
        if given is not None:
            return _contains(wanted, given)
        spec = spec_of(name)
        if name not in _KEEPS_RANGE and not (spec is not None and (spec.moves or spec.memory == "view")):
            return False
        if not value.args or not isinstance(value.args[0], fx.Node):
            return False
        value = value.args[0]
    return False


def _name(node: fx.Node) -> str:
    name = op_name(node)
    return canonical(name.rstrip("_") or name)


def _bounds(node: fx.Node) -> tuple[Any, Any] | None:
    """Return the range (low, high) to which an activation clips, None for what does anything else."""
    name = _name(node)
    if name == "relu":
        return 0, None
    if name not in _BOUNDED:
        return None
    if name == "relu6":
        return 0, 6
    given = arguments_of(node)
    low = given.get("min_val", given.get("min"))
    high = given.get("max_val", given.get("max"))
    numbers = all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in (low, high))
    return (low, high) if numbers and (low is not None or high is not None) else None


def _contains(outer: tuple[Any, Any], inner: tuple[Any, Any]) -> bool:
    low = outer[0] is None or (inner[0] is not None and inner[0] >= outer[0])
    return low and (outer[1] is None or (inner[1] is not None and inner[1] <= outer[1]))
