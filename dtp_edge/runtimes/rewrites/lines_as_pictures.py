"""Networks along a line (conv1d, max_pool1d) as pictures one pixel high, which XNNPACK takes whole.

ExecuTorch lowers a max pool along a line to one on pictures between two copies, and none of the three, nor a
mean along the line, goes to XNNPACK. Here a line stays a picture from its first convolution or pool to its
mean; what else reads it gets the line back. Without a pool or a mean nothing is left behind, nor changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from dtp_edge.ops.nodes import arguments_of, lookup, op_name

REWRITE = {
    "formats": ("pte",),
    "about": "pools, means and convolutions along a line are done on pictures one pixel high",
    "kinds": ("max_pool2d_with_indices", "unsqueeze_copy", "squeeze_copy"),
}
_POINTWISE = (
    "relu",
    "relu6",
    "hardtanh",
    "sigmoid",
    "silu",
    "hardswish",
    "tanh",
    "gelu",
    "batch_norm",
    "dropout",
)
_ATEN: Any = torch.ops.aten


def apply(module: Any) -> int:
    """Rewrite a graph in place; return how many pools and means along a line it had."""
    lines = _Lines(module)
    if not any(op_name(n) == "max_pool1d" for n in module.graph.nodes if n.op == "call_function"):
        return 0
    for node in list(module.graph.nodes):
        if node.op == "call_function":
            lines.take(node)
    lines.hand_back()
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return lines.count


class _Lines:
    """The picture of every line so far."""

    def __init__(self, module: Any) -> None:
        self.module, self.graph = module, module.graph
        self.pictures: dict[fx.Node, fx.Node] = {}
        self.count = 0

    def take(self, node: fx.Node) -> None:
        """Do what a node does to a line on its picture."""
        op, given = op_name(node), arguments_of(node)
        with self.graph.inserting_before(node):
            if op == "conv1d" and not isinstance(given["padding"], str):
                self.pictures[node] = self._convolution(given)
            elif op == "max_pool1d":
                self.pictures[node] = self._pool(given)
                self.count += 1
            elif op in _POINTWISE and (x := next(iter(node.all_input_nodes))) in self.pictures:
                self.pictures[node] = self.graph.node_copy(node, lambda n: self.pictures[x] if n is x else n)
            elif (
                op == "mean"
                and given["self"] in self.pictures
                and list(given.get("dim") or ()) in ([2], [-1])
            ):
                mean = self.graph.call_function(_ATEN.mean.dim, (self.pictures[given["self"]], [2, 3], True))
                dims = (2,) if given.get("keepdim") else (2, 3)
                node.replace_all_uses_with(self.graph.call_function(_ATEN.squeeze.dims, (mean, list(dims))))
                self.count += 1

    def hand_back(self) -> None:
        """Give the line to everything that reads one and was not rewritten."""
        for node, picture in self.pictures.items():
            readers = [user for user in node.users if user not in self.pictures]
            if readers:
                with self.graph.inserting_after(picture):
                    line = self.graph.call_function(_ATEN.squeeze.dim, (picture, 2))
                for user in readers:
                    user.replace_input_with(node, line)

    def _picture(self, line: fx.Node) -> fx.Node:
        if line not in self.pictures:
            return self.graph.call_function(_ATEN.unsqueeze.default, (line, 2))
        return self.pictures[line]

    def _convolution(self, given: dict[str, Any]) -> fx.Node:
        stride, padding, dilation = (
            _flat(given[k], low) for k, low in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        weight = self._weight(given["weight"])
        rest = (given["bias"], stride, padding, dilation, given["groups"])
        return self.graph.call_function(_ATEN.conv2d.default, (self._picture(given["input"]), weight, *rest))

    def _weight(self, weight: fx.Node) -> fx.Node:
        """Return the weight with a height of one: a parameter of its own, which runtimes can pack."""
        name = f"{str(weight.target).replace('.', '_')}_of_picture"
        if not hasattr(self.module, name):
            value = lookup(self.module, str(weight.target)).detach()
            self.module.register_parameter(name, nn.Parameter(value.unsqueeze(2).clone()))
        return self.graph.get_attr(name)

    def _pool(self, given: dict[str, Any]) -> fx.Node:
        kernel = _flat(given["kernel_size"], 1)
        stride = _flat(given.get("stride") or given["kernel_size"], 1)
        padding, dilation = _flat(given["padding"], 0), _flat(given["dilation"], 1)
        rest = (kernel, stride, padding, dilation, bool(given["ceil_mode"]))
        return self.graph.call_function(_ATEN.max_pool2d.default, (self._picture(given["self"]), *rest))


def _flat(value: Any, low: int) -> list[int]:
    """Return a size along a line as that of a picture one pixel high."""
    return [low, int(value[0] if isinstance(value, list | tuple) else value)]
