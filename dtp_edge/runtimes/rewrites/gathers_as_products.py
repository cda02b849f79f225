"""Channels of a picture that are gathered (a pruned channel shuffle) as a 1x1 convolution of zeros and ones.

XNNPACK has no gather. Each output is 1 times one channel, and 0 times the others: the same, whole in XNNPACK,
but with as many weights more as the product of both numbers of channels.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from dtp_edge.ops.nodes import arguments_of, lookup, op_name, rewrite_each

REWRITE = {
    "formats": ("pte", "tflite"),
    "about": "channels are gathered by a 1x1 convolution of zeros and ones, which makes the file larger",
    "kinds": ("index_select", "gather_nd"),
    "default": False,
}
_KEEP = (
    *(
        "relu",
        "relu_",
        "relu6",
        "hardtanh",
        "hardtanh_",
        "leaky_relu",
        "silu",
        "hardswish",
        "sigmoid",
        "gelu",
    ),
    *("batch_norm", "dropout", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "clamp"),
)


def apply(module: Any) -> int:
    """Rewrite a graph in place; return how many such gathers it had."""
    return rewrite_each(module, ("index_select",), _as_product)


def _as_product(module: Any, node: fx.Node, number: int) -> bool:
    given = arguments_of(node)
    index, channels = given["index"], _channels(module, given["self"])
    if given["dim"] != 1 or channels is None or not (isinstance(index, fx.Node) and index.op == "get_attr"):
        return False
    places = lookup(module, str(index.target)).long()
    weight = nn.functional.one_hot(places, channels).to(next(module.parameters()).dtype)[:, :, None, None]
    name = f"_gather_{number}"
    module.register_parameter(name, nn.Parameter(weight))
    with module.graph.inserting_before(node):
        product = module.graph.call_function(
            torch.ops.aten.conv2d.default, (given["self"], module.graph.get_attr(name))
        )
    node.replace_all_uses_with(product)
    return True


def _channels(module: Any, value: Any) -> int | None:
    """Return how many channels a picture has, where the operators on the way to it say it."""
    if not isinstance(value, fx.Node) or value.op != "call_function":
        return None
    name, given = op_name(value), arguments_of(value) if value.target is not operator.getitem else {}
    if name == "conv2d":
        return len(lookup(module, str(given["weight"].target)))
    if name == "index_select" and given["dim"] == 1 and given["index"].op == "get_attr":
        return len(lookup(module, str(given["index"].target))) if _channels(module, given["self"]) else None
    if name == "cat" and given.get("dim") == 1:
        parts = [_channels(module, part) for part in given["tensors"]]
        return None if None in parts else sum(part for part in parts if part)
    if value.target is operator.getitem:
        return _of_split(module, value)
    return _channels(module, value.args[0]) if name in _KEEP else None


def _of_split(module: Any, part: fx.Node) -> int | None:
    split, place = part.args
    if not (isinstance(split, fx.Node) and op_name(split) == "split_with_sizes" and isinstance(place, int)):
        return None
    given = arguments_of(split)
    known = given.get("dim") == 1 and _channels(module, given["self"]) is not None
    return int(given["split_sizes"][place]) if known else None
