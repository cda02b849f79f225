"""The opset that a file is written in: 18 unless a board's converter asks for another."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    ModelProto,
    NodeProto,
    inliner,
    numpy_helper,
    shape_inference,
    version_converter,
)
from onnx.helper import get_attribute_value, make_attribute, make_tensor_value_info
from onnxsim import simplify

from dtp_edge.errors import InputError, UnsupportedError

OPSET = 18
OPSETS = range(12, 21)


def refuse_opset(opset: int) -> None:
    """Raise `InputError` for an opset that files are not written in."""
    if opset not in OPSETS:
        raise InputError(
            f"opset {opset} is not written",
            where="--opset",
            hint=f"Name one from {OPSETS.start} to {OPSETS.stop - 1}.",
        )


def in_opset(model: ModelProto, opset: int) -> ModelProto:
    """Return the model in another opset; operators that it does not have are written out by their definition.

    Nothing of the conversion is trusted: `parity` runs the file. Raises `UnsupportedError` where there is no
    conversion.
    """
    if opset == OPSET:
        return model
    try:
        if opset < OPSET:
            return _lowered(_written_out(model, opset), opset)
        return version_converter.convert_version(model, opset)
    except (
        RuntimeError,
        ValueError,
        version_converter.ConvertError,
        shape_inference.InferenceError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UnsupportedError(
            f"the network cannot be written in opset {opset}: {reason}",
            where="--opset",
            hint=f"Opset {OPSET} is what the tool writes by itself; a later one than {opset} may do.",
        ) from error


def _written_out(model: ModelProto, opset: int) -> ModelProto:
    """Replace operators that the opset lacks by their definitions in simpler ones."""
    newer = sorted({n.op_type for n in model.graph.node if not n.domain and not _older(n.op_type, opset)})
    if not newer:
        return model
    typed = ModelProto()
    typed.CopyFrom(model)
    for tensor in model.graph.initializer:  # the inliner asks for the type of everything that is read
        typed.graph.value_info.append(make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    functions = [("", name) for name in newer]
    written = inliner.inline_selected_functions(typed, functions, inline_schema_functions=True)
    simple, same = simplify(written)
    return simple if same else written


_INPUTS = {
    "ReduceSum": ("axes", 13),
    "Squeeze": ("axes", 13),
    "Unsqueeze": ("axes", 13),
    "Split": ("split", 13),
}
_NOTHING = "nothing"
_NEW = {  # attributes: the opset that they came with, and what they are by default
    ("Resize", "antialias"): (18, 0),
    ("Resize", "keep_aspect_ratio_policy"): (18, b"stretch"),
    ("ScatterND", "reduction"): (16, b"none"),
    ("ScatterElements", "reduction"): (16, b"none"),
    ("Shape", "start"): (15, 0),
    ("Reshape", "allowzero"): (14, 0),
    ("BatchNormalization", "training_mode"): (14, 0),
    ("LSTM", "layout"): (14, 0),
    ("GRU", "layout"): (14, 0),
    ("RNN", "layout"): (14, 0),
}


def _lowered(model: ModelProto, opset: int) -> ModelProto:
    """Undo what later opsets changed (ONNX's own converter lacks most of it): inputs that were attributes.

    Raises `ValueError` for what the older form cannot say.
    """
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    ranks = _ranks(model) if opset < 13 else {}
    for node in model.graph.node:
        reduces = node.op_type.startswith("Reduce")
        name, since = _INPUTS.get(node.op_type, ("axes", 18) if reduces else ("", 0))
        if opset < since and len(node.input) > 1:
            if node.input[1] not in stored:
                raise ValueError(f"{node.op_type} computes its {name}")
            numbers = [int(v) for v in stored[node.input[1]].reshape(-1)]
            del node.input[1:]
            node.attribute.append(make_attribute(name, numbers))
        if node.op_type == "Pad" and len(node.input) > 3:
            raise ValueError("Pad names its axes")
        if node.op_type == "Resize" and opset < 13:  # whose region and scales were not yet optional
            for i in (1, 2):
                if len(node.input) > i and not node.input[i]:
                    node.input[i] = _NOTHING
        if node.op_type in ("Softmax", "LogSoftmax") and opset < 13:
            _last_axis(node, ranks)
        whole = node.op_type == "Reshape" and 0 not in stored.get(node.input[1], np.zeros(1))
        gone = {"allowzero"} if whole else set()
        gone |= {"noop_with_empty_axes"} if reduces and opset < since else {"num_outputs"} - {node.op_type}
        kept = [a for a in node.attribute if a.name not in gone]
        kept = [a for a in kept if not _is_default(node.op_type, a, opset)]
        del node.attribute[:]
        node.attribute.extend(kept)
    if any(_NOTHING in node.input for node in model.graph.node):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), _NOTHING))
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    return model


def _is_default(op: str, attribute: AttributeProto, opset: int) -> bool:
    since, default = _NEW.get((op, attribute.name), (0, None))
    if opset < since and get_attribute_value(attribute) != default:
        raise ValueError(f"{op} has {attribute.name}, which came with opset {since}")
    return opset < since


def _ranks(model: ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model).graph
    ports = [*graph.input, *graph.value_info, *graph.output]
    return {v.name: len(v.type.tensor_type.shape.dim) for v in ports}


def _last_axis(node: NodeProto, ranks: dict[str, int]) -> None:
    """Before opset 13 a softmax ranges over all dimensions from its axis on: only the last is the same."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    if axis not in (-1, ranks.get(node.input[0], 0) - 1):
        raise ValueError(f"{node.op_type} is not over the last dimension")
    kept = [a for a in node.attribute if a.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, make_attribute("axis", -1)])


def _older(name: str, opset: int) -> bool:
    """Whether the operator exists in the opset, in whatever version."""
    try:
        onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return False
    return True
