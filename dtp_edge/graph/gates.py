"""Where the mask of a gate acts: y = a + z b.

The last affine operator of the branch carries z in its parameters (scale and shift of a norm, weight and bias
of a convolution or linear layer), so that the user's own forward still runs, and its training mode is what it
is: z stands behind the norm, never before it. Between that operator and the addition may only lie what
multiplies through: views, reorderings, dropout, constant factors. Where an activation or a product of two
activations ends the branch, z acts on the operand of the addition, in the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import fx, nn

from dtp_edge.graph.branches import Branch
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.network import NodeSite, ParameterSite
from dtp_edge.ops.nodes import arguments_of, op_name
from dtp_edge.ops.spec import canonical, spec_of

_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_PASSES = (
    *("dropout", "feature_dropout", "roll", "slice", "narrow", "avg_pool2d", "adaptive_avg_pool2d"),
    *("upsample_nearest2d", "upsample_bilinear2d"),
)


def gate_sites(
    graph_module: fx.GraphModule,
    model: nn.Module,
    branches: Sequence[Branch],
    aliases: Mapping[str, list[str]],
) -> tuple[list[ParameterSite], list[NodeSite]]:
    """Return the sites of all gates. Their one row of atoms stands for every index of its dimension."""
    carriers = _Carriers(graph_module, model)
    nodes = {n.name: n for n in graph_module.graph.nodes}
    parameters: list[ParameterSite] = []
    others: list[NodeSite] = []
    for branch in branches:
        atoms = np.array([[branch.atom]], dtype=np.int32)
        found = carriers.of(nodes[branch.addition].all_input_nodes[branch.operand])
        if found is None:
            others.append(NodeSite(branch.addition, "multiply", branch.operand, 0, atoms))
            continue
        for target in found:
            parameters += [ParameterSite(name, 0, atoms) for name in aliases.get(target, [target])]
    return parameters, others


class _Carriers:
    """Finds the parameters that can carry a gate: such as nobody else reads."""

    def __init__(self, graph_module: fx.GraphModule, model: nn.Module) -> None:
        self._parameters = {n: p for n, p in own_tensors(model).items() if isinstance(p, nn.Parameter)}
        tensors = own_tensors(graph_module)
        reads = (n for n in graph_module.graph.nodes if n.op == "get_attr" and str(n.target) in tensors)
        self._times = Counter(id(tensors[str(n.target)]) for n in reads)

    def of(self, node: fx.Node) -> list[str] | None:
        """Return the parameters that scale the value of `node` and nothing else; None where none do."""
        carried: list[str] = []
        while len(node.users) == 1 and node.op == "call_function":
            name, given = canonical(op_name(node).rstrip("_")), arguments_of(node)
            if (affine := _affine(name, given)) is not None:
                found = [self._own(n) for n in affine]
                return None if None in found or not found else [*carried, *(f for f in found if f)]
            following, factors = self._through(node, name, given)
            if following is None:
                return None
            if factors and name == "mul":
                return [*carried, *factors]
            carried += factors
            node = following
        return None

    def _through(
        self, node: fx.Node, name: str, given: Mapping[str, object]
    ) -> tuple[fx.Node | None, list[str]]:
        """Return the operand behind a node that multiplies through, and parameters that must carry z here."""
        spec = spec_of(name)
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node):
            return None, []
        if name in ("mul", "div", "add"):
            other = node.args[1] if len(node.args) > 1 else None
            if isinstance(other, int | float):
                return (first, []) if name != "add" else (None, [])
            if not isinstance(other, fx.Node) or name == "div" or given.get("alpha", 1) != 1:
                return None, []
            for weight, value in ((other, first), (first, other)):
                if (own := self._own(weight)) is not None and self._own(value) is None:
                    return value, [own]
            return None, []
        if len(node.all_input_nodes) != 1:
            return None, []
        moves = spec is not None and (spec.moves or spec.memory == "view") and name != "getitem"
        plain_pad = name in ("constant_pad_nd", "pad") and given.get("mode", "constant") == "constant"
        zero_pad = plain_pad and not given.get("value")
        return (first, []) if moves or name in _PASSES or zero_pad else (None, [])

    def _own(self, node: object) -> str | None:
        """Return the parameter that a node is (or a reordering of it), if nobody else reads it."""
        while isinstance(node, fx.Node) and node.op == "call_function" and len(node.users) == 1:
            spec = spec_of(op_name(node))
            if spec is None or not spec.moves or len(node.all_input_nodes) != 1:
                return None
            node = node.all_input_nodes[0]
        if not isinstance(node, fx.Node) or node.op != "get_attr" or len(node.users) != 1:
            return None
        tensor = self._parameters.get(str(node.target))
        if tensor is None or not tensor.dim() or not tensor.is_floating_point():
            return None
        return str(node.target) if self._times[id(tensor)] == 1 else None


def _affine(name: str, given: Mapping[str, object]) -> list[object] | None:
    """Return the arguments that scale and shift the result of an affine operator, None for others."""
    spec = spec_of(name)
    if name in _NORMS or name == "linear" or (spec is not None and spec.fuses == "convolution"):
        names = ("weight", "bias")
        if given.get("weight") is None:
            return []
    elif name == "addmm":
        names = ("mat2", "self")
        if given.get("beta", 1) != 1:
            return None
    elif name in ("matmul", "mm"):
        names = ("other", "mat2")
        if given.get("mat2", given.get("other")) is None:
            return None
    else:
        return None
    return [given[n] for n in names if given.get(n) is not None]
