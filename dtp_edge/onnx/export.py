"""The ONNX file: opset 18, IR 10, static batch, simplified, the same bytes for the same network.

Opset 18 with IR 10 and a fixed batch is what every reader we know accepts. The graph is simplified by
onnxsim and rewritten by the passes of `passes/`. Nothing here is trusted: see `parity`.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxsim
import torch
from onnx import ModelProto
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import REPORT, CheckError, UnsupportedError, first_line
from dtp_edge.files import require_spellable, unwritable
from dtp_edge.graph.as_found import TRACING
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import as_tuple, batch_one, leaves
from dtp_edge.graph.plain_names import with_plain_names
from dtp_edge.onnx.attention_dims import FlatAttention
from dtp_edge.onnx.interface import Interface, key_names, name_ports, restore_types
from dtp_edge.onnx.opsets import OPSET, in_opset, refuse_opset
from dtp_edge.onnx.rewriting import Rewrite, find_passes, run_passes
from dtp_edge.onnx.squeezes import OnlyOnes
from dtp_edge.onnx.storage import stored_in_half

IR_VERSION = 10
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_INLINE_LIMIT_BYTES = 2_000_000_000  # of weights: a protobuf message holds less than 2 GiB


def export_onnx(
    module: nn.Module,
    example_inputs: tuple[Any, ...] | torch.Tensor,
    path: str | Path,
    *,
    dynamic_batch: bool = False,
    keep_shape: bool = False,
    metadata: Mapping[str, str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    interface: Interface | None = None,
    opset: int = OPSET,
) -> Path:
    """Write `module` in eval mode to `path` as ONNX and return the path.

    The batch (dimension 0 of the inputs) is 1 unless `dynamic_batch`; a network that only takes the batch
    of its example inputs (a size is written in its source) keeps that, and so does every one with
    `keep_shape`. Input names are those of the module's `forward` unless given, output names the keys of a
    mapping that it returns. With an `interface` (of the file that the network was read from) names, types
    and metadata are that file's. `opset` is 12 to 20. The module is not changed. The file appears whole or
    not at all.

    Raises `UnsupportedError` if the network has no ONNX form in this opset, `CheckError` if `onnx.checker`
    refuses it.
    """
    refuse_opset(opset)
    path = Path(path)
    given = as_tuple(example_inputs)
    inputs = given if keep_shape else batch_one(given)
    names = list(input_names) if input_names else forward_names(module, inputs)
    model, keys = _as_written(module, inputs, given, dynamic_batch)
    passes = [kind() for kind in find_passes("dtp_edge.onnx.passes", Rewrite)]
    model = run_passes(_simplified(model), passes)
    if interface is None:
        name_ports(model, names, list(output_names) if output_names else keys)
    else:
        name_ports(model, *interface.names())
        restore_types(model, interface)
        metadata = {**interface.metadata, **(metadata or {})}
    model = in_opset(model, opset)
    if interface is not None and interface.half_weights:
        model = stored_in_half(model)
    write_onnx(finish_proto(model, metadata or {}), path)
    return path


def require_exportable(module: nn.Module, example_inputs: tuple[Any, ...]) -> None:
    """Raise `UnsupportedError` if a network has no ONNX form; nothing is written."""
    _as_written(module, batch_one(example_inputs), example_inputs, dynamic_batch=False)


def _as_written(
    module: nn.Module, inputs: tuple[Any, ...], given: tuple[Any, ...], dynamic_batch: bool
) -> tuple[ModelProto, list[str] | None]:
    """Return `_to_proto` for `inputs`, or for those `given` where the network takes no others."""
    try:
        model, keys = _to_proto(module, inputs, dynamic_batch)
    except UnsupportedError:
        if same_shapes(inputs, given):
            raise
        model, keys = _to_proto(module, given, dynamic_batch)
    _refuse_operators(model)
    return model, keys


def same_shapes(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Return whether two sets of inputs agree in all shapes."""
    return [x.shape for x in leaves(one)] == [x.shape for x in leaves(two)]


def forward_names(module: nn.Module, inputs: tuple[Any, ...]) -> list[str]:
    """Return the names that the module's forward has for these inputs; one that is None is no input.

    What is nested in an argument has the argument's name and the keys, such as `batch.image`.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    if len(names) < len(inputs):
        names = [f"input_{i}" for i in range(len(inputs))]
    found = []
    for name, value in zip(names, inputs, strict=False):
        paths = [path for path, x in pytree.tree_flatten_with_path(value)[0] if x is not None]
        found += [".".join([name, *(str(getattr(k, "key", getattr(k, "idx", k))) for k in p)]) for p in paths]
    return found


def _refuse_operators(model: ModelProto) -> None:
    """Raise UnsupportedError for an operator that the file's opset does not have."""
    own = {function.name for function in model.functions}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in own:
            continue
        try:
            onnx.defs.get_schema(node.op_type, OPSET, "")
        except onnx.defs.SchemaError as error:
            raise UnsupportedError(
                f"the network uses {node.op_type}, which opset {OPSET} of ONNX does not have",
                where=node.name,
                hint="Replace that operator, or prune the network without it.",
            ) from error


def _to_proto(
    module: nn.Module,
    inputs: tuple[Any, ...],
    dynamic_batch: bool,
) -> tuple[ModelProto, list[str] | None]:
    """Return the network as the exporter writes it, and the keys of its outputs where they have some."""
    clone = copy.deepcopy(module).eval()
    shapes = None
    if dynamic_batch:
        inputs = pytree.tree_map_only(torch.Tensor, lambda x: torch.cat([x, x]) if x.ndim else x, inputs)
        batch = torch.export.Dim("batch", min=1)
        shapes = pytree.tree_map(
            lambda x: {0: batch} if isinstance(x, torch.Tensor) and x.ndim else None, inputs
        )
    options: dict[str, Any] = {
        "dynamo": True,
        "opset_version": OPSET,
        "input_names": [f"input_{i}" for i, x in enumerate(pytree.tree_leaves(inputs)) if x is not None],
        "dynamic_shapes": shapes,
        "external_data": False,
        "verbose": False,
    }
    try:
        with TRACING, _quiet(), torch.no_grad(), FlatAttention(), OnlyOnes():
            # a dict at the end would be taken for arguments by keyword
            last = ({},) if inputs and isinstance(inputs[-1], dict) else ()
            plain = with_plain_names(clone, inputs)
            program = torch.onnx.export(plain, (*inputs, *last), **options)
    except Exception as error:
        raise UnsupportedError(
            f"the network cannot be written as ONNX: {_innermost(error)}",
            hint="Replace the operator that is named there by others, or prune the network without it.",
        ) from error
    if program is None:
        raise UnsupportedError(
            "torch.onnx.export returned nothing for this network",
            hint="Try another version of torch; the compact module itself is right.",
        )
    model = program.model_proto
    found = {o.domain: o.version for o in model.opset_import}
    if found.get("", 0) != OPSET:
        raise CheckError(
            f"the exporter wrote opset {found.get('')} where {OPSET} was asked",
            hint="`pip install -U onnxscript` brings the converter that lowers it.",
        )
    exported = program.exported_program
    spec = None if exported is None else exported.call_spec.out_spec
    return model, None if spec is None else key_names(spec)


def _innermost(error: BaseException) -> str:
    """Return the first line of what an error of the exporter goes back to; its own names no operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _COLOURS.sub("", first_line(error, kind=True))[:300]


@contextlib.contextmanager
def _quiet():
    """Keep the exporter's progress lines and deprecation warnings off the user's terminal."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), hushed("stdout"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def _simplified(model: ModelProto) -> ModelProto:
    """Return onnxsim's version, or the model itself where that is larger, changed in interface or failed."""
    if tensor_bytes(model) >= _INLINE_LIMIT_BYTES // 2:
        return model  # onnxsim holds several copies, and a message above 2 GiB cannot pass through it
    try:
        simple, ok = onnxsim.simplify(model)
    except Exception:  # onnxsim is an optimisation: whatever it raises, the exported graph still stands
        return model
    same = [_names(model.graph.input), _names(model.graph.output)] == [
        _names(simple.graph.input),
        _names(simple.graph.output),
    ]
    small = simple.ByteSize() <= 1.1 * model.ByteSize() + 1_000_000
    return simple if ok and same and small else model


def _names(values: Any) -> list[str]:
    return [v.name for v in values]


def finish_proto(model: ModelProto, metadata: Mapping[str, str]) -> ModelProto:
    """Drop what varies or names this machine, set the metadata; in place."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "dtp_edge", "", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    infos = sorted(model.graph.value_info, key=lambda v: v.name)
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
    del model.metadata_props[:]
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=str(metadata[key]))
    return model


def tensor_bytes(model: ModelProto) -> int:
    """Return the bytes of all weights. (`ByteSize` raises where a message is too large to be written.)"""
    return sum(
        math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        for t in model.graph.initializer
    )


def write_onnx(model: ModelProto, path: Path) -> None:
    """Check `model` and write it to `path` under a temporary name first.

    Raises `CheckError` if `onnx.checker` refuses the file, `InputError` if the disk is full.
    """
    require_spellable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_checked(model, path)
    except OSError as error:
        raise unwritable(path, error) from error


def _write_checked(model: ModelProto, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder:
        draft = Path(folder) / path.name
        if tensor_bytes(model) < _INLINE_LIMIT_BYTES:
            draft.write_bytes(model.SerializePartialToString(deterministic=True))
        else:
            onnx.save_model(model, draft, save_as_external_data=True, location=path.name + ".data")
        try:
            onnx.checker.check_model(str(draft))
        except Exception as error:
            raise CheckError(
                f"onnx.checker refuses the exported file: {error}", where=str(path), hint=REPORT
            ) from error
        for file in sorted(Path(folder).iterdir(), key=lambda f: f.name == path.name):
            os.replace(file, path.parent / file.name)
