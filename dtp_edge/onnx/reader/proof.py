"""The proof of reading: the network against ONNX Runtime on the source file, its own bytes and opset."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from dtp_edge.errors import InputError, first_line
from dtp_edge.files.sessions import HINT, open_session
from dtp_edge.graph.leaves import in_float64, leaves, random_like
from dtp_edge.onnx.reader.dtypes import HALF
from dtp_edge.onnx.reader.source_file import Source
from dtp_edge.proof import Check
from dtp_edge.proof.equality import in_double
from dtp_edge.surgery.difference import FLOAT32_LIMIT, ROUNDING_LIMIT

NAME = "source file == network as read"
HALF_LIMIT = 2e-2  # of a file that itself computes in 16 bits
ABSOLUTE = 1e-6  # rounding of outputs that are near 0
Arrays = list[np.ndarray]


def check_source(
    source: Source,
    module: nn.Module,
    examples: list[tuple[torch.Tensor, ...]],
    *,
    original: Source,
    seeds: tuple[int, ...] = (0, 1),
) -> Check:
    """Compare `module` with ONNX Runtime on examples and random inputs, each output by its own scale.

    Where float32 is not enough to tell, the network in float64 decides, as it does for exported files. A
    quantised file is compared without the roundings of its activations, and the detail says how far it is.

    **Raises:** `InputError` for a file that ONNX Runtime itself cannot run.
    """
    changed = source is not original
    session = open_session(
        source.model.SerializeToString() if changed else source.path,
        where=f"{source.path} without its quantisation",
        hint="Give the file from before it was quantised." if changed else HINT,
    )
    batches = [*examples, *(random_like(x, seed) for x in examples for seed in seeds)]
    half = any(t.data_type in HALF for t in source.model.graph.initializer)
    half |= any(p.element in HALF for p in source.outputs)
    limit = HALF_LIMIT if half else FLOAT32_LIMIT
    worst, detail = 0.0, f"{len(batches)} inputs, outputs by name in ONNX Runtime"
    wanted = [_runs(session, source, x) for x in batches]
    single: list[Arrays] = []
    try:
        with torch.no_grad():
            single = [_arrays(module(*x)) for x in batches]
    except Exception as error:  # whatever it raises, the two do not agree
        return Check(NAME, False, float("inf"), limit, first_line(error, kind=True))
    worst, name = _worst(source, wanted, single)
    if worst > limit:
        exact = _in_float64(module, batches)
        own = _worst(source, exact, single)[0] if exact else float("inf")
        theirs = _worst(source, exact, wanted)[0] if exact else float("inf")
        if theirs <= min(ROUNDING_LIMIT, 4 * own):
            why = (
                f"{detail}; to float64, from which torch in float32 is {own:.1e} away (the two: {worst:.1e})"
            )
            return Check(NAME, True, theirs, ROUNDING_LIMIT, why)
        detail += f"; output {name!r} differs"
    if changed:
        far = _worst(source, [_run(open_session(original.path), source, x) for x in batches], single)[0]
        detail += f"; the quantised file itself is {far:.1e} away"
    return Check(NAME, worst <= limit, worst, limit, detail)


def _runs(session: ort.InferenceSession, source: Source, inputs: tuple[Any, ...]) -> Arrays:
    """Run the file; raises `InputError` where ONNX Runtime cannot."""
    try:
        return _run(session, source, inputs)
    except Exception as error:  # its own kinds, which share no class
        raise InputError(
            f"ONNX Runtime cannot run it: {first_line(error, kind=True)}", where=str(source.path), hint=HINT
        ) from error


def _run(session: ort.InferenceSession, source: Source, inputs: tuple[Any, ...]) -> Arrays:
    feed = {port.name: x.numpy() for port, x in zip(source.inputs, inputs, strict=True)}
    return [np.asarray(y) for y in session.run([o.name for o in source.outputs], feed)]


def _arrays(outputs: Any) -> Arrays:
    return [y.detach().cpu().numpy() for y in leaves(outputs)]


def _worst(source: Source, wanted: list[Arrays], found: list[Arrays]) -> tuple[float, str]:
    """Return the largest difference of any output, and its name."""
    worst, name = 0.0, ""
    for want, got in zip(wanted, found, strict=True):
        if len(want) != len(got):
            return float("inf"), f"{len(got)} of {len(want)} outputs"
        for port, a, b in zip(source.outputs, want, got, strict=True):
            gap = difference(a, b)
            if gap > worst:
                worst, name = gap, port.name
    return worst, name


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return |a - b| over the scale of a; for whole numbers the share that differs; inf for other shapes."""
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind in "biu":
        return float((a != b).mean()) if a.size else 0.0
    if a.dtype == np.float16 or b.dtype == np.float16:
        a, b = a.astype(np.float16), b.astype(np.float16)
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(
        x[~finite], y[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    gap, scale = float(np.abs(x - y)[finite].max()), float(np.abs(x[finite]).max())
    return 0.0 if gap <= ABSOLUTE and scale <= 1 and gap <= 0.05 * scale else gap / max(scale, 1e-30)


def _in_float64(module: nn.Module, batches: list[tuple[Any, ...]]) -> list[Arrays]:
    """Return the outputs in float64, [] where the network does not run in it."""
    try:
        double = in_double(module)
        with torch.no_grad():
            return [_arrays(double(*in_float64(b))) for b in batches]
    except (RuntimeError, TypeError):
        return []
