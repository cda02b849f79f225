"""Read an ONNX file: node by node as an fx graph, then prove that ONNX Runtime agrees on the file itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import fx, nn

from dtp_edge.errors import UnsupportedError
from dtp_edge.onnx.interface import Interface, keep_interface
from dtp_edge.onnx.reader import quantisation
from dtp_edge.onnx.reader.proof import check_source
from dtp_edge.onnx.reader.registry import Context, writer_of
from dtp_edge.onnx.reader.source_file import InputShapes, Source, at_number, example, open_source, tensor_of
from dtp_edge.onnx.reader.values import Builder, Value
from dtp_edge.onnx.storage import stores_half
from dtp_edge.proof import require

_COMPARED = "numbers compared with"
_TYING = {"MatMul", "Gemm", "Gather", "Conv", "Transpose"}  # what may share a weight


def load_onnx(
    path: str | Path, input_shape: InputShapes = None
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network in an ONNX file, in eval mode, and example inputs of batch 1.

    Floating-point initializers become parameters (batch-norm statistics buffers), so it trains. Where the
    file leaves sizes free, `input_shape` says them without the batch: of its first input, or by input name.
    The network keeps the file's names, types and metadata for the file that it is exported to, see
    `dtp_edge.onnx.interface`, and holds the proof that it computes what the file does.

    **Raises:** `InputError` for a file that cannot be read or checked, or a size that nobody says;
    `UnsupportedError` with the names of all operators that are not read; `CheckError` where ONNX Runtime
    computes something else from the file.
    """
    source = open_source(Path(path), input_shape)
    plain = quantisation.dequantised(source)
    module, examples = _network(plain, free_batch=any(p.batched for p in source.inputs))
    if not _runs_at_two(module, examples, plain):
        module, examples = _network(plain, free_batch=False)
    module.eval()
    batches = [examples, *(at_number(examples, n) for n in module.meta.pop(_COMPARED)[1:9])]
    check = check_source(plain, module, batches, original=source)
    keep_interface(
        module,
        Interface(
            inputs=[(p.name, p.element) for p in source.inputs],
            outputs=[(p.name, p.element) for p in source.outputs],
            metadata={p.key: p.value for p in source.model.metadata_props},
            notes=list(plain.notes),
            check=check,
            half_weights=stores_half(source.model),
        ),
    )
    require([check])
    return module, examples


def _runs_at_two(module: fx.GraphModule, examples: tuple[torch.Tensor, ...], source: Source) -> bool:
    """Whether the network takes a batch of two and treats its rows alike."""
    twice = [torch.cat([x, x]) if p.batched else x for x, p in zip(examples, source.inputs, strict=True)]
    try:
        with torch.no_grad():
            one, two = (fx.Interpreter(module.eval()).run(*x) for x in (examples, twice))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    pairs = zip(*((y,) if isinstance(y, torch.Tensor) else y for y in (one, two)), strict=True)
    return all(
        a.ndim > 0
        and 2 * a.shape[0] == b.shape[0]
        and torch.allclose(torch.cat([a, a]), b, rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in pairs
    )


def _network(source: Source, *, free_batch: bool) -> tuple[fx.GraphModule, tuple[torch.Tensor, ...]]:
    builder = Builder(free_batch=free_batch)
    generator, taken = torch.Generator().manual_seed(0), set[str]()
    values: dict[str, Value] = {}
    for port in source.inputs:
        values[port.name] = builder.input(port.name, example(port, generator, 1), taken)
    try:
        _read_graph(source.model.graph, source.opset, builder, values)
        module = builder.finish([_output(values, o.name) for o in source.outputs])
    except UnsupportedError as refusal:
        where = f"{source.path}, {refusal.where}" if refusal.where else str(source.path)
        raise UnsupportedError(refusal.what, where=where, hint=refusal.hint) from refusal
    examples = tuple(example(p, generator, builder.index_bound) for p in source.inputs)
    module.meta[_COMPARED] = list(dict.fromkeys(builder.compared))
    return module, at_number(examples, *module.meta[_COMPARED][:1])


def _output(values: dict[str, Value], name: str) -> Value:
    if name not in values:
        raise UnsupportedError(f"gives {name!r}, an output that is not read", hint="Export it without.")
    return values[name]


def _read_graph(graph: onnx.GraphProto, opset: int, builder: Builder, values: dict[str, Value]) -> None:
    """Add the constants and nodes of a graph, or of a branch of `If`, to `values`."""
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    for stored in graph.initializer:
        values[stored.name] = _stored(stored.name, tensor_of(stored), readers)
    for sparse in graph.sparse_initializer:
        raise UnsupportedError(f"stores {sparse.values.name!r} as a sparse tensor", hint="Store it densely.")
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = _stored(node.output[0], _constant(node), readers)
        elif node.op_type == "If":
            made = _branch(node, opset, builder, values)
            values.update(zip(node.output, made, strict=True))
        else:
            values.update(zip(node.output, _read_node(node, opset, builder, values), strict=False))
    values.pop("", None)


def _stored(name: str, tensor: torch.Tensor, readers: dict[str, list[str]]) -> Value:
    """A stored tensor; a matrix that several layers read, as embedding and head, stays one parameter."""
    users = readers.get(name, [])
    tied = len(users) > 1 and tensor.ndim >= 2 and tensor.is_floating_point() and set(users) <= _TYING
    return Value(tensor, name, None, constant=True, weight=True, fixed=True, tied=tied)


def _constant(node: onnx.NodeProto) -> torch.Tensor:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return tensor_of(value)
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnsupportedError(f"holds a constant of kind {attribute.name}", hint="Store it as a tensor.")
    return torch.from_numpy(np.array(value, np.int64 if "int" in attribute.name else np.float32))


def _read_node(
    node: onnx.NodeProto, opset: int, builder: Builder, values: dict[str, Value]
) -> tuple[Value, ...]:
    context = Context(node, opset, builder, values)
    writer = writer_of(node.op_type)
    if writer is None:
        raise context.refuse("is not read")
    try:
        made = writer(context)
    except UnsupportedError as refusal:
        if refusal.where:
            raise
        raise context.refuse(f"cannot be read: {refusal.what}") from refusal
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise context.refuse(f"is used in a way that is not read ({reason})") from error
    context.check_all_read()
    return made if isinstance(made, tuple) else (made,)


def _branch(node: onnx.NodeProto, opset: int, builder: Builder, values: dict[str, Value]) -> list[Value]:
    """One branch of `If` where the condition is known; else both, of which the condition picks one."""
    context = Context(node, opset, builder, values)
    condition = context.value(0)
    graphs = {a.name: a.g for a in node.attribute}

    def outputs(name: str) -> list[Value]:
        inner = dict(values)
        _read_graph(graphs[name], opset, builder, inner)
        return [_output(inner, o.name) for o in graphs[name].output]

    if condition.constant:
        return outputs("then_branch" if bool(condition.sample.any()) else "else_branch")
    pairs = list(zip(outputs("then_branch"), outputs("else_branch"), strict=True))
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        raise context.refuse("chooses between results of different shapes at run time")
    picked = builder.call(torch.reshape, condition, [])
    return [builder.call(torch.where, picked, a, b) for a, b in pairs]
