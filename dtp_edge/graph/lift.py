"""From what torch.export returns to a graph over the model's own tensors.

An exported program passes parameters and buffers as inputs. Here they become attributes again, under the
model's names and as the model's own objects: updates of one are seen by the other. (`program.module()` does
as much and adds guards on the inputs, which would have to be taken out again.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo

from dtp_edge.graph.lazy import LazyGraphModule, graph_module_over, refuse_unwritable
from dtp_edge.ops.nodes import lookup

_ATTRIBUTES = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def own_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers of a model, shared ones under each of their names."""
    found: dict[str, torch.Tensor] = {}
    for path, part in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for table in (part._parameters, part._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    found[prefix + name] = tensor
    return found


def lift(program: torch.export.ExportedProgram, model: nn.Module) -> LazyGraphModule:
    """Return the graph module of `program`, which is used up.

    Raises `UnsupportedError` for names that the code of a graph cannot write.
    """
    inputs, outputs = program.graph_signature.input_specs, program.graph_signature.output_specs
    refuse_unwritable(str(spec.target) for spec in inputs if spec.kind in _ATTRIBUTES)
    plain = all(s.kind in (*_ATTRIBUTES, InputKind.USER_INPUT) for s in inputs)
    if not plain or any(s.kind != OutputKind.USER_OUTPUT for s in outputs):
        return _lifted_by_torch(program, model)
    graph, own = program.graph, own_tensors(model)
    tensors: dict[str, Any] = {}
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, inputs, strict=True):
        if spec.kind in _ATTRIBUTES:
            target = str(spec.target)
            node.op, node.target = "get_attr", target
            tensors[target] = own[target] if target in own else _stored(program, target)
    for node in graph.nodes:
        if node.op == "get_attr" and node.target not in tensors:  # the sub-graph of a region
            tensors[str(node.target)] = program.graph_module.get_submodule(str(node.target))
    graph.set_codegen(_interface(program, [node.name for node in placeholders if node.op == "placeholder"]))
    return graph_module_over(graph, tensors, LazyGraphModule)


def _stored(program: torch.export.ExportedProgram, target: str) -> Any:
    return program.constants[target] if target in program.constants else program.state_dict[target]


def _interface(program: torch.export.ExportedProgram, inputs: list[str]) -> _PyTreeCodeGen:
    """Return the way in and out of the model's forward, nested inputs and outputs included."""
    spec, signature = program.call_spec, program.module_call_graph[0].signature
    names = signature.forward_arg_names if signature is not None else None
    assert spec.in_spec is not None
    return _PyTreeCodeGen(_PyTreeInfo(names or inputs, spec.in_spec, spec.out_spec))


def _lifted_by_torch(program: torch.export.ExportedProgram, model: nn.Module) -> LazyGraphModule:
    """Let torch do it where a graph writes to its inputs or holds more than tensors; drop its guards."""
    module = program.module()
    for node in list(module.graph.nodes):
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)
    own, tensors = own_tensors(model), {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            name = str(node.target)
            tensors[name] = own[name] if name in own else lookup(module, name)
    return graph_module_over(module.graph, tensors, LazyGraphModule)
