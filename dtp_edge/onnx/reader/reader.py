"""Read an ONNX file: simplify with fixed shapes, then write node by node as an fx graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from dtp_edge.errors import InputError, UnsupportedError, require_file
from dtp_edge.graph.hush import hushed
from dtp_edge.onnx.reader import ops_compute, ops_layout
from dtp_edge.onnx.reader.registry import FIXED, Context, writer_of

MAX_BYTES = 2 * 2**30
FAMILIES = (ops_compute, ops_layout)  # importing them registers their operators


def load_onnx(
    path: str | Path, input_shape: tuple[int, ...] | None = None
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network in an ONNX file, in eval mode, and example inputs of batch 1.

    Floating-point initializers become parameters (batch-norm statistics buffers), so it trains. Where the
    file leaves the size of its first input free, `input_shape` (without the batch) says it.

    **Raises:** `InputError` for a file that cannot be read or checked, or a size that nobody says;
    `UnsupportedError` with the names of all operators that are not read.
    """
    model = _checked(Path(path))
    model = _simplified(model, _input_shapes(model, str(path), input_shape))
    missing = sorted({n.op_type for n in model.graph.node if n.op_type != "Constant" and not _known(n)})
    if missing:
        raise UnsupportedError(
            f"uses operators that are not read: {', '.join(missing)}",
            where=str(path),
            hint="Give the PyTorch module instead: file.py:callable.",
        )
    examples = _examples(model)
    module = _build(model, free_batch=True)
    if not _runs_at_two(module, examples):
        module = _build(model, free_batch=False)
    return module.eval(), examples


def _runs_at_two(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> bool:
    """Whether the network takes a batch of two and treats its rows alike."""
    twice = [torch.cat([x, x]) for x in examples]
    try:
        with torch.no_grad(), hushed():  # a graph module prints the traceback of its failing code
            one, two = module.eval()(*examples), module(*twice)
    except (RuntimeError, TypeError):
        return False
    pairs = zip(*((y,) if isinstance(y, torch.Tensor) else y for y in (one, two)), strict=True)
    return all(torch.allclose(torch.cat([a, a]), b, rtol=1e-3, atol=1e-4) for a, b in pairs)


def _known(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and writer_of(node.op_type) is not None


def _checked(path: Path) -> onnx.ModelProto:
    require_file(path, "Check the path of MODEL.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            "is larger than 2 GiB", where=str(path), hint="Such a file is no edge network; split it first."
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        raise InputError(
            f"is not a valid ONNX file ({str(error).splitlines()[0][:200]})",
            where=str(path),
            hint="Check it with `python -m onnx.checker` or export it again.",
        ) from error
    return model


def _input_shapes(model: onnx.ModelProto, where: str, first: tuple[int, ...] | None) -> dict[str, list[int]]:
    """Return the shape of every input: a free batch is 1, other free sizes are those of `first`."""
    shapes = {}
    for number, value in enumerate(_true_inputs(model)):
        dims = value.type.tensor_type.shape.dim
        sizes = [d.dim_value for d in dims]
        said = first if number == 0 and first is not None and len(first) == len(sizes) - 1 else ()
        for i, size in enumerate(said, start=1):
            sizes[i] = sizes[i] or size
        if any(size < 1 for size in sizes[1:]):
            text = ", ".join(d.dim_param or (str(d.dim_value) if d.dim_value else "?") for d in dims)
            raise InputError(
                f"leaves the size of its input {value.name!r} free: [{text}]",
                where=where,
                hint="Give it without the batch, as in --input-shape 3,224,224, or export with fixed sizes.",
            )
        shapes[value.name] = [max(size, 1) for size in sizes]
    return shapes


def _simplified(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> onnx.ModelProto:
    """Fix the sizes of the inputs and fold what depends on shapes alone."""
    from onnxsim import simplify

    simple, _ = simplify(model, overwrite_input_shapes=shapes)
    return onnx.shape_inference.infer_shapes(simple)


def _examples(model: onnx.ModelProto) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for value in _true_inputs(model):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            examples.append(torch.randn(shape, generator=generator))
        else:
            examples.append(torch.zeros(shape, dtype=torch.int64))
    return tuple(examples)


def _true_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    names = {i.name for i in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in names]


def _build(model: onnx.ModelProto, *, free_batch: bool) -> fx.GraphModule:
    root = fx.GraphModule(nn.Module(), fx.Graph())  # what the constants hang from
    graph = fx.Graph(root)
    values: dict[str, fx.Node] = {}
    for value in _true_inputs(model):
        values[value.name] = graph.placeholder(_identifier(value.name))
    constants = _constants(model)
    statistics = {
        name for n in model.graph.node if n.op_type == "BatchNormalization" for name in n.input[3:5]
    }
    shapes = _shapes(model, constants)
    for name in _read_as_tensors(model, constants):
        values[name] = _attach(root, graph, name, constants[name], buffer=name in statistics)
    for node in model.graph.node:
        if node.op_type == "Constant":
            continue
        context = Context(node, graph, values, constants, shapes, free_batch, _attributes(node))
        writer = writer_of(node.op_type)
        assert writer is not None
        try:
            made = writer(context)
        except InputError:
            raise
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise context.refuse(f"is used in a way that is not read ({error})") from error
        outputs = made if isinstance(made, tuple) else (made,)
        values |= dict(zip(node.output, outputs, strict=False))
    outputs = tuple(values[o.name] for o in model.graph.output)
    graph.output(outputs[0] if len(outputs) == 1 else outputs)
    graph.eliminate_dead_code()
    module = fx.GraphModule(root, graph)
    module.delete_all_unused_submodules()
    return module


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant_value(node)
    return constants


def _constant_value(node: onnx.NodeProto) -> np.ndarray:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.to_array(value) if attribute.name == "value" else np.array(value)


def _read_as_tensors(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> list[str]:
    """Return the constants that some operator reads as a tensor (all floating ones that are used)."""
    used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    return [name for name, array in constants.items() if name in used and array.dtype.kind == "f"]


def _attach(root: nn.Module, graph: fx.Graph, name: str, array: np.ndarray, *, buffer: bool) -> fx.Node:
    """Hang a weight under its own dotted name, so that groups and reports speak the file's names."""
    *path, leaf = [_identifier(part) for part in name.split(".") if part] or ["weight"]
    owner = root
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    while hasattr(owner, leaf):
        leaf += "_"
    tensor = torch.from_numpy(array.copy())
    if buffer:
        owner.register_buffer(leaf, tensor)
    else:
        owner.register_parameter(leaf, nn.Parameter(tensor))
    made = graph.get_attr(".".join([*path, leaf]))
    made.meta[FIXED] = True
    return made


def _identifier(name: str) -> str:
    text = "".join(ch if ch.isalnum() or ch == "_" else "_" for ch in name)
    return text if text and not text[0].isdigit() else f"_{text}"


def _shapes(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> dict[str, tuple[int, ...] | None]:
    shapes: dict[str, tuple[int, ...] | None] = {n: tuple(a.shape) for n, a in constants.items()}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        known = all(d.HasField("dim_value") for d in dims)
        shapes[value.name] = tuple(d.dim_value for d in dims) if known else None
    return shapes


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
