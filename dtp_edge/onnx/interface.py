"""What runs the user's file may rely on: names and types of inputs and outputs, metadata.

A network that was read from an ONNX file carries them, so that the file written from it has them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import ModelProto, TensorProto, helper
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.proof import Check

_KEY = "dtp_edge_onnx"
FLOATS_16 = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Interface:
    """Names and ONNX types of what goes in and out, the file's metadata, notes, and the proof of reading.

    `half_weights`: the file keeps its weights in float16, and so does the one that is written.
    """

    inputs: list[tuple[str, int]]
    outputs: list[tuple[str, int]]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    check: Check | None = None
    half_weights: bool = False

    def names(self) -> tuple[list[str], list[str]]:
        """Names of inputs and of outputs."""
        return [name for name, _ in self.inputs], [name for name, _ in self.outputs]


def keep_interface(module: nn.Module, interface: Interface) -> None:
    """Let a network carry its interface; copies carry it too."""
    vars(module).setdefault("meta", {})[_KEY] = interface


def interface_of(module: nn.Module) -> Interface | None:
    """Return what a network that was read from an ONNX file carries, None for others."""
    meta: Any = getattr(module, "meta", None)
    return meta.get(_KEY) if isinstance(meta, dict) else None


def source_checks(module: nn.Module) -> list[Check]:
    """Return the proof that a network computes what the file does that it was read from, if it was."""
    interface = interface_of(module)
    return [] if interface is None or interface.check is None else [interface.check]


def source_notes(module: nn.Module) -> list[str]:
    """Return what was fixed or changed when the network was read."""
    interface = interface_of(module)
    return [] if interface is None else list(interface.notes)


def key_names(spec: pytree.TreeSpec) -> list[str] | None:
    """Return the keys of a mapping that a network returns, as names of its outputs; None otherwise."""
    outputs = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    if not isinstance(outputs, Mapping):
        return None
    paths = [path for path, _ in pytree.tree_flatten_with_path(outputs)[0]]
    names = [".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path) for path in paths]
    return names if len(set(names)) == len(names) else None


def name_ports(model: ModelProto, inputs: Sequence[str], outputs: Sequence[str] | None) -> None:
    """Give inputs and outputs these names, in place; whatever inside has one of them steps aside."""
    graph = model.graph
    ins, outs = [v.name for v in graph.input], [v.name for v in graph.output]
    wanted = outs if outputs is None or len(outputs) != len(outs) else outputs
    old, new = [*ins, *outs], [*inputs[: len(ins)], *ins[len(inputs) :], *wanted]
    if len(set(new)) != len(new) or old == new:
        return
    renamed = dict(zip(old, new, strict=True))
    used = _value_names(model) | set(new)
    for name in set(new) - set(old):
        if name in _value_names(model):
            other = name
            while other in used:
                other += "_"
            used.add(other)
            renamed[name] = other
    _rename(model, renamed)


def _value_names(model: ModelProto) -> set[str]:
    graph = model.graph
    return {n for node in graph.node for n in [*node.input, *node.output]} | {
        v.name for v in [*graph.input, *graph.output, *graph.initializer]
    }


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                names_of[i] = names.get(name, name)
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        value.name = names.get(value.name, value.name)


def restore_types(model: ModelProto, interface: Interface) -> None:
    """Let 16-bit inputs and outputs be 16-bit again, in place, by casts."""
    graph = model.graph
    for value, (_, element) in zip(graph.input, interface.inputs, strict=True):
        if element in FLOATS_16 and value.type.tensor_type.elem_type == TensorProto.FLOAT:
            wide = _fresh(model, f"{value.name}_float32")
            for node in graph.node:
                for i, name in enumerate(node.input):
                    if name == value.name:
                        node.input[i] = wide
            value.type.tensor_type.elem_type = element
            cast = helper.make_node("Cast", [value.name], [wide], to=TensorProto.FLOAT)
            graph.node.insert(0, cast)
    for value, (_, element) in zip(graph.output, interface.outputs, strict=True):
        if element in FLOATS_16 and value.type.tensor_type.elem_type == TensorProto.FLOAT:
            wide = _fresh(model, f"{value.name}_float32")
            for node in graph.node:
                for names in (node.input, node.output):
                    for i, name in enumerate(names):
                        if name == value.name:
                            names[i] = wide
            value.type.tensor_type.elem_type = element
            graph.node.append(helper.make_node("Cast", [wide], [value.name], to=element))


def _fresh(model: ModelProto, name: str) -> str:
    used = _value_names(model)
    while name in used:
        name += "_"
    return name
