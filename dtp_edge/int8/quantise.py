"""int8 by static QDQ through ONNX Runtime's own quantiser, with the calibration method chosen by evidence.

QDQ and not QOperator: of seven runtimes tried, QOperator files ran in ONNX Runtime alone. Weights are
symmetric int8, per output channel; activations are uint8 per tensor, so that zero after a ReLU is stored
as 0: OpenVINO 2026.4 pads int8 tensors with stored zeros, and is wrong by 15 % of range on ResNet-20 where
zero is stored as -128. The batches are split: activation
ranges come from the larger part, and where `method="best"` each method is judged by how well its file
agrees with the fp32 file on the other part, which it has not seen.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.files.sessions import open_session
from dtp_edge.int8.case import Int8Case
from dtp_edge.int8.finish import finish_model
from dtp_edge.int8.joins import unlike_joins
from dtp_edge.int8.operators import QUANTIZED_OPS, gelu_nodes
from dtp_edge.onnx.agreement import Agreement, measure_agreement
from dtp_edge.onnx.session import Batch, as_batches, run

METHODS = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99
STRIDE = 1  # batches whose activations are held in memory at once while ranges are collected
JUDGED = 16  # batches that show how large the parts of a join are
HELD_OUT_EVERY = 4  # every 4th batch judges, the others calibrate


@dataclass(frozen=True)
class Int8Result:
    """An int8 file, the method that won, and what every method that was tried reached."""

    path: Path
    method: str
    agreement: Agreement
    tried: tuple[Agreement, ...]
    float_ops: tuple[str, ...]  # operator types that still compute in float


def quantize_onnx(
    fp32_path: str | Path,
    int8_path: str | Path,
    calibration: Iterable[Any],
    method: str = "best",
    *,
    reduce_range: bool = False,
    exclude: Sequence[str] = (),
    max_samples: int = 256,
    same_bits: bool = True,
    per_channel: bool = True,
) -> Int8Result:
    """Write an int8 QDQ file (opset and IR of the fp32 file, at most IR 10) beside an fp32 one.

    **Arguments:**

    - `calibration`: batches of inputs: dicts of arrays by input name, or one array (or tensor) a batch for a
      network with one input. The first dimension is the batch; batches are re-cut to the file's own.
      At least 2 samples, of which every 4th is held out.
    - `method`: "minmax", "percentile" (99.99), "entropy", or "best": the one that agrees best with fp32.
    - `reduce_range`: 7-bit weights, for x86 without VNNI, whose int8 products saturate.
    - `exclude`: names of nodes that stay in float.
    - `same_bits`: powers of two as scales, with which every runtime that rounds as the file says computes
      the same (see `passes.shared_scales`). Without, steps are as fine as the ranges allow, and runtimes
      differ.
    - `per_channel`: a scale for each output channel of weights; without, one for each tensor, as some
      accelerators need it.

    The same input gives the same bytes. The file appears complete or not at all.

    Raises InputError for a bad file, method or batch; UnsupportedError where nothing can be quantised.
    """
    if method != "best" and method not in METHODS:
        raise InputError(
            f"{method!r} is not a calibration method",
            where="method",
            hint=f"One of best, {', '.join(METHODS)}.",
        )
    fp32_path, int8_path = Path(fp32_path), Path(int8_path)
    session = open_session(fp32_path)
    batches = as_batches(session, calibration, max_samples)
    if len(batches) < 2:
        raise InputError("calibration needs at least 2 samples", where="calibration", hint="give 64 or more")
    held_out = batches[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or batches[-1:]
    ranging = [b for b in batches if not any(b is h for h in held_out)]
    expected = [run(session, batch) for batch in held_out]

    int8_path.parent.mkdir(parents=True, exist_ok=True)
    tried: list[Agreement] = []
    with tempfile.TemporaryDirectory(dir=int8_path.parent, prefix=".int8-") as work:
        source = _prepare(fp32_path, Path(work) / "source.onnx")
        model = ir.load(source)
        floats = gelu_nodes(model) | unlike_joins(source, ranging[:JUDGED]) | frozenset(exclude)
        case = Int8Case(floats, model if same_bits else None)
        files: dict[str, Path] = {}
        for name in METHODS if method == "best" else (method,):
            raw = _quantize(
                source, Path(work) / f"{name}.onnx", ranging, name, reduce_range, floats, per_channel
            )
            files[name] = finish_model(raw, fp32_path, name, case)
            tried.append(measure_agreement(name, files[name], held_out, expected))
        best = min(tried, key=lambda row: (not np.isfinite(row.relative_error), row.relative_error))
        float_ops = _float_ops(files[best.method])
        files[best.method].replace(int8_path)
    return Int8Result(int8_path, best.method, best, tuple(tried), float_ops)


class HasPrecision(Protocol):
    """What is read of a device profile."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...


def precision_refusal(profile: HasPrecision) -> str | None:
    """Return why a device profile cannot be asked for int8, or None where it can."""
    if profile.precision in ("int8", "w8a8"):
        return None
    return (
        f"profile {profile.name} has no int8 kernels: it holds {profile.precision} times of its runtime, "
        "so neither the budget nor the speed of an int8 file could be stated; choose an int8 profile "
        "(`dtp-edge devices` lists them) or prune without int8"
    )


def is_quantized(path: str | Path) -> bool:
    """Return whether an ONNX file holds QuantizeLinear nodes."""
    model = onnx.load(str(path), load_external_data=False)
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _prepare(fp32_path: Path, path: Path) -> Path:
    """Copy the model with the mark that pre-processing is done (export folds and simplifies), or do it."""
    model = onnx.load(str(fp32_path))
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        from onnxruntime.quantization.shape_inference import quant_pre_process

        quant_pre_process(str(fp32_path), str(path), skip_symbolic_shape=True)
        return path
    if not any(node.op_type in QUANTIZED_OPS for node in model.graph.node):
        raise UnsupportedError(
            "the network has no operator that can be quantised",
            where=str(fp32_path),
            hint="Ship the fp32 file: int8 would change nothing.",
        )
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    onnx.save(model, str(path))
    return path


def _quantize(
    source: Path,
    path: Path,
    batches: list[Batch],
    method: str,
    reduce_range: bool,
    exclude: frozenset[str],
    per_channel: bool,
) -> Path:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    present = {node.op_type for node in onnx.load(str(source), load_external_data=False).graph.node}
    kinds = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    with _quiet():
        quantize_static(
            str(source),
            str(path),
            _Reader(batches),  # pyright: ignore[reportArgumentType]  # duck-typed: get_next, len, set_range
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(present & QUANTIZED_OPS),
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(exclude),
            calibrate_method=kinds[method],
            extra_options={"CalibStridedMinMax": STRIDE, "CalibPercentile": PERCENTILE},
        )
    return path


class _quiet:
    """Hold back the quantiser's log lines and prints: its advice is about steps that were done already."""

    def __enter__(self) -> None:
        import contextlib
        import io

        self._stdout = contextlib.redirect_stdout(io.StringIO())
        self._stdout.__enter__()
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *error: object) -> None:
        logging.disable(self._level)
        self._stdout.__exit__(None, None, None)


class _Reader:
    """The quantiser's `CalibrationDataReader`, over a list and able to serve a part of it at a time."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self._rest: Iterator[Batch] = iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._batches[start_index:end_index])

    def get_next(self) -> Batch | None:
        return next(self._rest, None)


def _float_ops(path: Path) -> tuple[str, ...]:
    """Name the operator types that compute in float, in whole or in part."""
    graph = onnx.load(str(path), load_external_data=False).graph
    dequantized = {out for node in graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    skip = {"QuantizeLinear", "DequantizeLinear", "Constant", "Shape"}
    floats = {
        n.op_type
        for n in graph.node
        if n.op_type not in skip and not (n.op_type in QUANTIZED_OPS and dequantized & set(n.input))
    }
    return tuple(sorted(floats))
