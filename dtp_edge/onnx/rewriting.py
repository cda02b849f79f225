"""Passes over an ONNX graph: what one is, how they are found, and the one manager that runs them.

A pass is one file in a folder of passes, and is found there by itself. It is an onnx_ir pass: `requires` says
what the graph must have (where it has not, the pass is left out, and the graph stays), `ensures` what it has
afterwards. Both run around every pass, and tests call them alone.
"""

from __future__ import annotations

import graphlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import onnx_ir as ir
from onnx import ModelProto
from onnx_ir.passes import InPlacePass, InvariantError, PassResult, PostconditionError, PreconditionError

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.files.found import modules_in

log = logging.getLogger(__name__)


class Rewrite(InPlacePass):
    """A pass that keeps what the graph computes, and its interface: the names of inputs and outputs.

    `after` names the passes (their files) that run before this one. `opset` is the oldest that has the
    operators which the pass writes.
    """

    after: ClassVar[tuple[str, ...]] = ()
    opset: ClassVar[int] = 1

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite the model in place; say whether anything was changed."""
        raise NotImplementedError

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError where the model's opset lacks what this pass writes."""
        version = model.opset_imports.get("", 0)
        if version < self.opset:
            raise PreconditionError(f"writes operators of opset {self.opset}; the file has opset {version}")

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError where a node reads what no node before it makes."""
        made = {*model.graph.inputs, *model.graph.initializers.values()}
        for node in model.graph:
            for value in node.inputs:
                if value is not None and value not in made:
                    raise PostconditionError(
                        f"{node.op_type} {node.name!r} reads {value.name!r} before it is made"
                    )
            made.update(node.outputs)


R = TypeVar("R", bound=Rewrite)


class NodeRewrite(Rewrite):
    """A pass that replaces nodes of one operator, each by itself.

    `match` returns what it needs to know of a node that it replaces, None for one that stays; `build` makes
    the nodes, of which the last has the old node's output.
    """

    op_type: ClassVar[str]

    @abstractmethod
    def match(self, node: ir.Node) -> Any: ...

    @abstractmethod
    def build(self, node: ir.Node, found: Any, make: Maker) -> list[ir.Node]: ...

    def call(self, model: ir.Model) -> PassResult:
        make = Maker(model.graph)
        matches = [(node, found) for node in self._nodes(model) if (found := self.match(node)) is not None]
        for node, found in matches:
            new = self.build(node, found, make)
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], new, node.outputs, new[-1].outputs
            )
        return PassResult(model, bool(matches))

    def ensures(self, model: ir.Model) -> None:
        """Nothing is left that the pass would replace."""
        super().ensures(model)
        left = next((node for node in self._nodes(model) if self.match(node) is not None), None)
        if left is not None:
            raise PostconditionError(f"{left.op_type} {left.name!r} still stands")

    def _nodes(self, model: ir.Model) -> list[ir.Node]:
        return [
            n for n in model.graph if n.op_type == self.op_type and not n.domain and n.inputs[0] is not None
        ]


class Maker:
    """Makes nodes and constants under names that nothing else in the graph has."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._names = {str(v.name) for n in graph.all_nodes() for v in n.outputs}
        self._names |= {str(v.name) for v in [*graph.inputs, *graph.initializers.values()]}

    def value(self, name: str) -> ir.Value:
        """Return a new tensor, called `name` or much like it."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return ir.Value(name=name)

    def constant(self, name: str, array: np.ndarray | Sequence[int]) -> ir.Value:
        """Store a constant in the graph; whole numbers are int64."""
        value = stored(self.value(name), np.asarray(array))
        self.graph.register_initializer(value)
        return value


def node(
    op_type: str, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value], name: str, **attributes: Any
) -> ir.Node:
    """Return a node that makes `outputs`; one without a name stays without."""
    return ir.node(op_type, inputs, dict(sorted(attributes.items())), outputs=outputs, name=name)


def stored(value: ir.Value, array: np.ndarray) -> ir.Value:
    """Give a tensor its constant value, and return it."""
    value.const_value = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=value.name)
    return value


def array(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of a stored constant, None for a tensor that is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def ints(value: ir.Value | None) -> list[int] | None:
    """Return a stored vector (or scalar) of whole numbers, None for anything else."""
    found = array(value)
    return None if found is None or found.ndim > 1 else [int(v) for v in np.atleast_1d(found)]


def float_shape(value: ir.Value | None) -> list[int | None] | None:
    """Return the shape of a computed float32 tensor, open sizes as None; None where it is not known."""
    if value is None or value.shape is None or value.is_initializer() or value.dtype != ir.DataType.FLOAT:
        return None
    return [size if isinstance(size, int) else None for size in value.shape]


def readers(value: ir.Value) -> int:
    """Return how often a tensor is read: by nodes, subgraphs, and as an output of the network."""
    return len(value.uses()) + value.is_graph_output()


def find_passes(package: str, kind: type[R]) -> list[type[R]]:
    """Return the passes of a kind in the files of a package, in the order in which they run."""
    found: dict[str, type[R]] = {}
    for name, module in modules_in(package).items():
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and issubclass(value, kind):
                found[name] = value
    order = graphlib.TopologicalSorter({name: found[name].after for name in sorted(found)})
    return [found[name] for name in order.static_order() if name in found]


def run_passes(model: ModelProto, passes: Iterable[Rewrite]) -> ModelProto:
    """Run passes, each after the one before, and return the new model; metadata, opset and names stay.

    A pass whose `requires` does not hold is left out. Raises `CheckError` where one breaks its promise.
    """
    graph = ir.from_proto(model)
    for rewrite in passes:
        name = type(rewrite).__name__
        try:
            rewrite.requires(graph)
        except PreconditionError as reason:
            log.debug("%s is left out: %s", name, reason)
            continue
        try:
            rewrite(graph)
        except InvariantError as error:
            raise CheckError(f"the ONNX pass {name} broke its promise: {error}", hint=REPORT) from error
    return _as_written(ir.to_proto(graph), model)


def _as_written(new: ModelProto, old: ModelProto) -> ModelProto:
    """Take what passes do not touch from the old file: inputs, outputs, what it says of tensors, texts."""
    made = {output for n in new.graph.node for output in n.output}
    gone = {output for n in old.graph.node for output in n.output} - made
    for field in ("input", "output", "value_info"):
        ours, theirs = getattr(new.graph, field), getattr(old.graph, field)
        del ours[:]
        ours.extend(value for value in theirs if value.name not in gone)
    texts = {n.output[0]: n.doc_string for n in old.graph.node if n.output and n.HasField("doc_string")}
    for written in new.graph.node:
        if written.output and written.output[0] in texts:
            written.doc_string = texts[written.output[0]]
    for part, said in ((new, old), (new.graph, old.graph)):
        if said.HasField("doc_string"):
            part.doc_string = said.doc_string
    return new
