"""The opset that a file is written in: 18 unless a board's converter asks for another."""

from __future__ import annotations

import onnx
from onnx import ModelProto, inliner, version_converter

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

    Nothing of the conversion is trusted: `parity` runs the file. Raises `UnsupportedError` where ONNX has no
    conversion.
    """
    if opset == OPSET:
        return model
    newer = {
        n.op_type
        for n in model.graph.node
        if not n.domain and onnx.defs.get_schema(n.op_type, OPSET).since_version > opset
        and not _older(n.op_type, opset)
    }  # fmt: skip
    try:
        if newer:
            functions = [("", name) for name in sorted(newer)]
            model = inliner.inline_selected_functions(model, functions, inline_schema_functions=True)
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises RuntimeError, its own class and others
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UnsupportedError(
            f"the network cannot be written in opset {opset}: {reason}",
            where="--opset",
            hint=f"Opset {OPSET} is what the tool writes by itself; a later one than {opset} may do.",
        ) from error


def _older(name: str, opset: int) -> bool:
    """Whether the operator exists in the opset at all, in whatever version."""
    try:
        onnx.defs.get_schema(name, opset)
    except onnx.defs.SchemaError:
        return False
    return True
