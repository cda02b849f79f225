"""Write the labelled graph down as the list of layers that costs are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.graph.branches import Depth
from dtp_edge.graph.engine import concrete
from dtp_edge.graph.layers import Dim, Gate, Layer, LayerGraph, Tensor
from dtp_edge.graph.network import TensorLabels
from dtp_edge.ops.nodes import arguments_of, lookup, op_name, owner
from dtp_edge.ops.spec import spec_of


class LayerList:
    """Collects tensors, widths and layers; sizes are those of one sample."""

    def __init__(self, graph_module: fx.GraphModule, is_parameter: Callable[[str], bool]) -> None:
        self._graph_module = graph_module
        self._is_parameter = is_parameter
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[fx.Node, Any] = {}
        self._widths: dict[bytes, int] = {}
        self._arrays: list[np.ndarray] = []
        self._known: dict[int, tuple[int, float]] = {}
        self._layers: list[Layer] = []
        self._one_sample: dict[str, int] = {}
        self._products: dict[frozenset[int], np.ndarray] = {}

    def build(
        self, labels: Mapping[str, Any], parts: Mapping[str, list[Any]], n_atoms: int, depth: Depth
    ) -> LayerGraph:
        """`labels` by node name (parameters too); `parts` the labels of the outputs of nodes with several."""
        inputs: list[str] = []
        outputs: tuple[str, ...] = ()
        for node in self._graph_module.graph.nodes:
            val = node.meta.get("val")
            if node.op == "placeholder" and isinstance(val, torch.Tensor):
                inputs.append(self._tensor(node, node.name, val, labels.get(node.name), "input"))
            elif node.op == "get_attr":
                self._attribute(node, labels)
            elif node.op == "call_function":
                self._call(node, val, labels, parts)
            elif node.op == "output":
                outputs = tuple(n for s in node.all_input_nodes for n in self._names_of(s))
        gates = self._gates(depth)
        return LayerGraph(
            tuple(self._layers), self._tensors, tuple(self._arrays), n_atoms, tuple(inputs), outputs, gates
        )

    def _gates(self, depth: Depth) -> tuple[Gate, ...]:
        """Return the gate of every branch, and tell the layers behind them which products they run behind."""
        behind: dict[str, set[int]] = {}
        nodes = {node.name: node for node in self._graph_module.graph.nodes}
        found = []
        for index, branch in enumerate(depth.branches):
            chain = [depth.branches[i].atom for i in depth.chain(index)]
            for name in branch.gone:
                behind.setdefault(name, set()).update(chain)
            ends = (branch.addition, *branch.repeats)
            stays = self._names_of(nodes[branch.stays])[0]
            same = dict.fromkeys((self._names_of(nodes[name])[0] for name in ends), stays)
            around = None if branch.parent is None else self._product(chain[1:])
            found.append(Gate(branch.name, self._product(chain), around, frozenset(branch.gone), same))
        products = {name: self._product(atoms) for name, atoms in behind.items()}
        self._layers = [replace(layer, gate=products.get(layer.name)) for layer in self._layers]
        return tuple(found)

    def _product(self, atoms: Iterable[int]) -> int:
        """Return the number of the width that is the product of these atoms' masks."""
        key = frozenset(atoms)
        if key not in self._products:
            self._products[key] = np.array([sorted(key)], dtype=np.int32)
        return self._width(self._products[key])[0]

    def _attribute(self, node: fx.Node, labels: Mapping[str, Any]) -> None:
        tensor = lookup(self._graph_module, str(node.target))
        if isinstance(tensor, torch.Tensor):
            role = "parameter" if isinstance(tensor, torch.nn.Parameter) else "constant"
            if role == "constant" and self._is_parameter(str(node.target)):
                role = "buffer"
            self._tensor(node, str(node.target), tensor, labels.get(node.name), role)

    def _call(
        self, node: fx.Node, val: Any, labels: Mapping[str, Any], parts: Mapping[str, list[Any]]
    ) -> None:
        op = op_name(node)
        if op == "getitem":
            source = self._names.get(node.args[0])  # type: ignore[arg-type]
            self._names[node] = source[int(node.args[1])] if isinstance(source, list) else source  # type: ignore
            return
        if isinstance(val, torch.Tensor):
            outputs = (self._tensor(node, node.name, val, labels.get(node.name), "activation"),)
        elif isinstance(val, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in val):
            names: list[str | None] = []
            for i, v in enumerate(val):
                known = isinstance(v, torch.Tensor)
                part = parts.get(node.name, [None] * len(val))[i] if known else None
                names.append(self._tensor(None, f"{node.name}.{i}", v, part, "activation") if known else None)
            self._names[node] = names
            outputs = tuple(n for n in names if n is not None)
        else:
            return  # sizes, not tensors
        inputs = tuple(n for s in node.all_input_nodes for n in self._names_of(s))
        attributes = self._attributes(node, op)
        self._layers.append(Layer(node.name, op, owner(node), inputs, outputs, attributes))

    def _names_of(self, node: fx.Node) -> list[str]:
        found = self._names.get(node)
        return [n for n in (found if isinstance(found, list) else [found]) if n is not None]

    def _tensor(self, node: fx.Node | None, name: str, val: Any, labels: Any, role: str) -> str:
        if name not in self._tensors:
            given: TensorLabels = labels if labels is not None else (None,) * val.dim()
            dims = tuple(self._dim(s, rows) for s, rows in zip(val.shape, given, strict=True))
            dtype = str(val.dtype).removeprefix("torch.")
            self._tensors[name] = Tensor(name, dims, role, dtype)
        if node is not None:
            self._names[node] = name
        return name

    def _dim(self, size: Any, rows: np.ndarray | None) -> Dim:
        one = self.one_sample(size)
        if rows is None:
            return Dim(one)
        width, scale = self._width(rows)
        return Dim(one, width, scale * one / concrete(size))

    def _width(self, rows: np.ndarray) -> tuple[int, float]:
        """Return the number of a distinct label array, and how often the dimension repeats it."""
        if id(rows) not in self._known:
            base, scale = _compressed(rows)
            key = base.tobytes() + bytes([base.shape[1]])
            if key not in self._widths:
                self._widths[key] = len(self._arrays)
                self._arrays.append(base)
            self._known[id(rows)] = (self._widths[key], scale)
        return self._known[id(rows)]

    def one_sample(self, size: Any) -> int:
        """Return a size at batch 1."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        key = str(expression)
        if key not in self._one_sample:
            self._one_sample[key] = int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
        return self._one_sample[key]

    def _attributes(self, node: fx.Node, op: str) -> dict[str, object]:
        arguments = arguments_of(node)
        found = {k: v for k, v in ((k, self._literal(v)) for k, v in arguments.items()) if v is not None}
        if _is_convolution(op):
            weight = arguments["weight"].meta.get("val")
            if weight is None:
                weight = lookup(self._graph_module, str(arguments["weight"].target))
            spatial = weight.dim() - 2
            found["kernel_size"] = tuple(int(k) for k in weight.shape[2:])
            for key in ("stride", "padding", "dilation", "output_padding"):
                value = found.get(key)
                if isinstance(value, tuple) and len(value) == 1:
                    found[key] = value * spatial
            found["transposed"] = bool(found.get("transposed", "transpose" in op))
        return found

    def _literal(self, value: Any) -> Any:
        if isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, fx.Node):
            val = value.meta.get("val")
            return (
                None if isinstance(val, (torch.Tensor, list, tuple)) or val is None else self.one_sample(val)
            )
        if isinstance(value, (list, tuple)):
            parts = tuple(self._literal(v) for v in value)
            return None if any(p is None for p in parts) else parts
        return None


def _is_convolution(op: str) -> bool:
    spec = spec_of(op)
    return spec is not None and spec.fuses == "convolution"


def _compressed(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the distinct rows and their common count, if every row comes equally often."""
    short = len(rows) < 2 or ((rows[0] != rows[1]).any() and (rows[0] != rows[len(rows) // 2]).any())
    if short and len(rows) < 2048:
        return rows, 1.0
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    if len(distinct) < len(rows) and (counts == counts[0]).all():
        return distinct, float(counts[0])
    return rows, 1.0
