"""The file as it lies on disk: checked, bounded, its inputs sized, its functions written out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import inliner, numpy_helper, shape_inference

from dtp_edge.errors import InputError, UnsupportedError, require_file
from dtp_edge.onnx.reader.dtypes import HALF, torch_dtype
from dtp_edge.onnx.reader.registry import writer_of
from dtp_edge.onnx.reader.values import bounded

MAX_BYTES = 2 * 2**30
FIRST_OPSET = 7  # the oldest that ONNX Runtime runs
InputShapes = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
_STRUCTURE = ("Constant", "If", "QuantizeLinear")  # read by the reader itself, or left out by it


@dataclass
class Port:
    """An input or output of the file. `element` is ONNX's number of its type."""

    name: str
    element: int
    shape: tuple[int, ...] = ()
    declared: tuple[str | int, ...] = ()
    batched: bool = False  # its first dimension is free or 1


@dataclass
class Source:
    """A file that can be read; `notes` say what was fixed or changed on the way."""

    path: Path
    model: onnx.ModelProto
    opset: int
    inputs: list[Port]
    outputs: list[Port]
    notes: list[str] = field(default_factory=list)


def open_source(path: Path, input_shape: InputShapes) -> Source:
    """Read and check a file. Raises `InputError` or `UnsupportedError` with what is wrong."""
    model = _checked(path)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < FIRST_OPSET:
        raise UnsupportedError(
            f"is written in opset {opset}; {FIRST_OPSET} and later are read",
            where=str(path),
            hint="Convert it: onnx.version_converter.convert_version(model, 17).",
        )
    notes: list[str] = []
    inputs = _sized(model, str(path), input_shape, notes)
    outputs = [Port(o.name, o.type.tensor_type.elem_type) for o in model.graph.output]
    if not inputs:
        raise InputError(
            "has no input", where=str(path), hint="Nothing can be pruned in a network of constants."
        )
    model = _written_out(model, str(path))
    if any(p.element in HALF for p in [*inputs, *outputs]) or any(
        t.data_type in HALF for t in model.graph.initializer
    ):
        notes.append("16-bit numbers are computed and stored as float32; inputs and outputs keep their types")
    return Source(path, model, opset, inputs, outputs, notes)


def _checked(path: Path) -> onnx.ModelProto:
    require_file(path, "Check the path of MODEL.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            "is larger than 2 GiB",
            where=str(path),
            hint="This is not a network for an edge device; split it first.",
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, onnx and the file system raise classes without a common base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"is not a valid ONNX file ({reason})",
            where=str(path),
            hint="Check it with `python -m onnx.checker` or export it again.",
        ) from error
    return model


def _sized(model: onnx.ModelProto, where: str, said: InputShapes, notes: list[str]) -> list[Port]:
    """Return the inputs with whole shapes: a free first dimension is 1, a name has one size everywhere."""
    stored = {i.name for i in model.graph.initializer}
    ports = [_port(value, where) for value in model.graph.input if value.name not in stored]
    shapes = _said(ports, said, where)
    named: dict[str, int] = {}
    for port in ports:
        given = shapes.get(port.name, ())
        given = (None, *given) if len(given) == len(port.declared) - 1 else given
        if given and len(given) != len(port.declared):
            given = ()
        for i, size in enumerate(port.declared):
            if isinstance(size, str) and size:
                asked = given[i] if given else None
                if asked is None and i == 0:
                    asked = 1
                if asked is not None:
                    named.setdefault(size, asked)
        port.shape = tuple(
            size if isinstance(size, int) else ((given[i] if given else None) or (1 if i == 0 else 0))
            for i, size in enumerate(port.declared)
        )
    for port in ports:
        port.shape = tuple(
            now or named.get(str(size), 0) for now, size in zip(port.shape, port.declared, strict=True)
        )
        port.batched = bool(port.shape) and (isinstance(port.declared[0], str) or port.shape[0] == 1)
        text = ", ".join(str(d or "?") for d in port.declared)
        if not all(port.shape):
            raise InputError(
                f"leaves the size of its input {port.name!r} free: [{text}]",
                where=where,
                hint="Give it without the batch, as in --input-shape 3,224,224 (or NAME=3,224,224 for one of "
                "several inputs), or export with fixed sizes.",
            )
        bounded(port.shape, f"input {port.name!r}")
        free = [str(d or "?") for d in port.declared[1:] if isinstance(d, str)]
        if free:
            notes.append(f"input {port.name!r} is [{text}] in the source, fixed at {list(port.shape)}")
    return ports


def _port(value: onnx.ValueInfoProto, where: str) -> Port:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type == onnx.TensorProto.STRING:
        raise UnsupportedError(
            f"has an input {value.name!r} that is not a tensor of numbers",
            where=where,
            hint="Export the part of the network that reads tensors.",
        )
    if not kind.HasField("shape"):
        raise InputError(
            f"does not say how many dimensions its input {value.name!r} has",
            where=where,
            hint="Export it again with a shape, free sizes included.",
        )
    declared = [d.dim_value if d.dim_value > 0 else d.dim_param for d in kind.shape.dim]
    return Port(value.name, kind.elem_type, declared=tuple(declared))


def _said(ports: list[Port], said: InputShapes, where: str) -> dict[str, tuple[int, ...]]:
    if said is None or not ports:
        return {}
    shapes = said if isinstance(said, Mapping) else {ports[0].name: said}
    unknown = sorted(set(shapes) - {p.name for p in ports})
    if unknown:
        raise InputError(
            f"has no input {unknown[0]!r}",
            where=where,
            hint=f"It has {', '.join(p.name for p in ports)}.",
        )
    return dict(shapes)


def _written_out(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Replace functions by their bodies: the file's own, and composed operators without a writer."""
    try:
        model = _inlined(model)
    except (RuntimeError, ValueError, shape_inference.InferenceError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"its composed operators cannot be written out ({reason})",
            where=where,
            hint="Check it with `python -m onnx.checker` or export it again.",
        ) from error
    missing = _missing(model.graph)
    if missing:
        names = sorted(f"{domain}.{name}" if domain else name for domain, name in missing)
        raise UnsupportedError(
            f"uses operators that are not read: {', '.join(names)}{_why(names)}",
            where=where,
            hint="Give the PyTorch module instead: file.py:callable.",
        )
    return model


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    if model.functions:
        model = inliner.inline_local_functions(model)
    bodies = [("", name) for domain, name in _missing(model.graph) if not domain]
    if not bodies:
        return model
    return inliner.inline_selected_functions(model, bodies, inline_schema_functions=True)


_DYNAMIC = {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}


def _why(names: list[str]) -> str:
    quantised = _DYNAMIC.intersection(names) or any(n.startswith("com.microsoft") for n in names)
    return (
        " (it is quantised or optimised for one runtime: take the file that it was made from)"
        if quantised
        else ""
    )


def _missing(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for node in graph.node:
        known = node.op_type in _STRUCTURE or writer_of(node.op_type) is not None
        if node.domain not in ("", "ai.onnx") or not known:
            found.add((node.domain.replace("ai.onnx", "") or "", node.op_type))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _missing(attribute.g)
    return found


def tensor_of(proto: onnx.TensorProto) -> torch.Tensor:
    """A stored tensor; 16-bit floats as float32."""
    bounded(proto.dims, f"tensor {proto.name!r}")
    array = numpy_helper.to_array(proto)
    if proto.data_type in HALF:
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def example(port: Port, generator: torch.Generator, index_bound: int | None) -> torch.Tensor:
    """A random input: normal floats, whole numbers that every table of the network has."""
    dtype = torch_dtype(port.element)
    if dtype.is_floating_point:
        return torch.randn(port.shape, generator=generator, dtype=dtype)
    if dtype == torch.bool:
        return torch.rand(port.shape, generator=generator) < 0.7
    high = index_bound or (256 if dtype == torch.uint8 else 10)
    return torch.randint(0, high, port.shape, generator=generator).to(dtype)


def at_number(examples: tuple[torch.Tensor, ...], *number: int) -> tuple[torch.Tensor, ...]:
    """Return the examples with `number`, if any, in each input that is one whole number."""
    return tuple(
        torch.full_like(x, number[0])
        if number and x.numel() == 1 and not x.is_floating_point() and x.dtype != torch.bool
        else x
        for x in examples
    )
