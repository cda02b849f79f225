"""One format of the compact network: made, read back by the vendor's own runtime, compared, or not there.

Each step is a child process with limits of time, memory and words. The files are made in a folder of their
own and moved beside the others only when the runtime computes with them what the network computes in torch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.runtimes.apart import FP32_LIMIT, difference, relative_rms, same_top1
from dtp_edge.runtimes.child import Outcome, run_child
from dtp_edge.runtimes.environment import interpreter
from dtp_edge.runtimes.formats.registry import Format
from dtp_edge.runtimes.placement import Placement
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.runtimes.rewrites import rewrites_of
from dtp_edge.runtimes.trial import told

PACKAGE = Path(__file__).parents[3]
INT8_FACTOR, INT8_FLOOR = 2.0, 0.1  # of ONNX Runtime's int8 error (relative, RMS); what is always allowed
INT8_ALONE = 0.5  # where there is no int8 ONNX file to be held against


@dataclass(frozen=True)
class Port:
    """One input of the network, batch 1."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Truth:
    """What a file must compute: `outputs` of the network in torch for `inputs`, both `[samples, ...]`.

    `rounding` is how far torch itself is from float64 on them, over the limit of float32 files; `int8_error`
    is the error of the int8 ONNX file on them (relative, RMS), None where there is none.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    rounding: float = 0.0
    int8_error: float | None = None


@dataclass(frozen=True)
class Source:
    """What formats are made of: the folder of `save_pruned`, the ONNX files, inputs, and samples for int8.

    `pruned_int8` is the folder of the network whose weights were trained for int8, where they were.
    """

    pruned: Path
    onnx: Path
    ports: tuple[Port, ...]
    truth: Mapping[str, Truth]
    onnx_int8: Path | None = None
    pruned_int8: Path | None = None
    samples: list[np.ndarray] = field(default_factory=list)
    kernels: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Limits:
    """What a vendor's program may take, each."""

    timeout_s: float = 900.0
    memory_bytes: int = 8 << 30
    threads: int = 1
    repeats: int = 0


@dataclass(frozen=True)
class FormatRow:
    """One file of one format. `status`: ok, failed, missing, crashed or timeout; only ok left files.

    `relative_diff` is the largest difference over the output's range, `error` the RMS error (relative),
    `same_top1` the share of samples with the same top class: all against the compact network in torch.
    `rewrites` says in how many places each rewrite that was asked for changed the network on the way.
    """

    format: str
    precision: str
    runtime: str
    status: str
    files: tuple[str, ...] = ()
    bytes: int = 0
    version: str | None = None
    max_abs_diff: float | None = None
    relative_diff: float | None = None
    error: float | None = None
    same_top1: float | None = None
    latency_ms: float | None = None
    placement: Placement | None = None
    rewrites: Mapping[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_of: str = ""
    detail: str = ""
    install: str = ""


def make_file(
    one: Format,
    precision: str,
    source: Source,
    folder: Path,
    *,
    stem: str = "model",
    limits: Limits = Limits(),
    rewrites: Sequence[str] | None = None,
    channels_last: bool = True,
    interpreters: Mapping[str, str] | None = None,
) -> FormatRow:
    """Make one file in `folder` and prove it; whatever the vendor's programs do, a row comes back.

    `rewrites` names those that are applied (None: those of the format that cost nothing).
    """
    runtime = RUNTIMES[one.runtime]
    row = FormatRow(one.name, precision, runtime.name, "failed", install=f"dtp-edge env {runtime.name}")
    if precision not in one.precisions:
        return replace(row, detail=f"{one.name} is written in {', '.join(one.precisions)} only", install="")
    python = interpreter(runtime, interpreters)
    names = one.files(stem, precision)
    # absolute: the vendor's programs run in folders of their own
    with tempfile.TemporaryDirectory(dir=folder.resolve(), prefix=f".{one.name}-") as place:
        job = _make_job(one, precision, source, Path(place) / names[0], limits)
        job["rewrites"] = [
            r.name for r in rewrites_of(one.name) if (r.default if rewrites is None else r.name in rewrites)
        ]
        job["channels_last"] = channels_last
        made = _child(python, job, source.samples if precision == "int8" else [], place, "make", limits)
        row = replace(row, version=made.version, rewrites=_rewritten(made.facts, job["rewrites"]))
        if made.status != "ok":
            detail = f"making it: {made.detail}"
            return replace(row, status=made.status, detail=detail)
        if absent := [name for name in names if not _holds(Path(place) / name)]:
            return replace(row, detail=f"the exporter wrote no {', '.join(absent)}")
        truth = source.truth[precision]
        reader = _read_job(str(runtime.adapter), runtime.distribution, Path(place) / names[0], source, limits)
        read = _child(python, reader, truth.inputs, place, "read", limits)
        row = judged(replace(row, version=read.version or row.version), read, truth, precision)
        if row.status != "ok":
            return row
        for name in names:
            os.replace(Path(place) / name, folder / name)
    size = sum((folder / name).stat().st_size for name in names)
    facts = {**read.facts, **made.facts}
    return replace(row, files=tuple(names), bytes=size, **told(facts, source.kernels), install="")


def _rewritten(facts: Mapping[str, Any], asked: Sequence[str]) -> dict[str, int]:
    found = facts.get("rewrites")
    return {n: int(k) for n, k in found.items() if n in asked} if isinstance(found, dict) else {}


def judged(row: FormatRow, read: Outcome, truth: Truth, precision: str) -> FormatRow:
    """Hold what the runtime computed against the network in torch."""
    if read.status != "ok":
        return replace(row, status=read.status, detail=f"reading it back: {read.detail}")
    sizes, wanted = [o.size for o in read.outputs], [o.size for o in truth.outputs]
    if sizes != wanted:
        return replace(row, detail=f"reading it back: outputs have {sizes} elements, not {wanted}")
    largest, relative, excess = difference(read.outputs, truth.outputs, quantized=False)
    error = relative_rms(read.outputs, truth.outputs)
    if precision == "fp32":
        passed, most = excess <= max(1.0, 4 * truth.rounding), f"{FP32_LIMIT:g} of the largest output"
    else:
        bound = INT8_ALONE if truth.int8_error is None else max(INT8_FACTOR * truth.int8_error, INT8_FLOOR)
        passed, most = error <= bound, f"a relative error of {bound:.3g}"
    detail = (
        "" if passed else f"differs from torch by {largest:.3g} (relative error {error:.3g}), limit {most}"
    )
    return replace(
        row,
        status="ok" if passed else "failed",
        max_abs_diff=largest,
        relative_diff=relative,
        error=error,
        same_top1=same_top1(read.outputs, truth.outputs),
        latency_ms=read.latency_ms,
        detail=detail,
    )


def _child(
    python: str, job: Mapping[str, Any], arrays: list[np.ndarray], place: str, task: str, limits: Limits
) -> Outcome:
    folder = Path(place) / task
    folder.mkdir()
    return run_child(python, {**job, "task": task}, arrays, folder, limits.timeout_s, limits.memory_bytes)


def _make_job(one: Format, precision: str, source: Source, target: Path, limits: Limits) -> dict[str, Any]:
    onnx = source.onnx if precision == "fp32" else source.onnx_int8
    pruned = source.pruned if precision == "fp32" else source.pruned_int8 or source.pruned
    return {
        "adapter": str(one.maker),
        "distribution": RUNTIMES[one.runtime].distribution,
        "format": one.name,
        "package": str(PACKAGE),
        "pruned": str(pruned.resolve()),
        "onnx": None if onnx is None else str(onnx.resolve()),
        "target": str(target),
        "precision": precision,
        "inputs": [{"name": p.name, "shape": list(p.shape), "dtype": p.dtype} for p in source.ports],
        "threads": limits.threads,
    }


def _read_job(adapter: str, distribution: str, model: Path, source: Source, limits: Limits) -> dict[str, Any]:
    return {
        "adapter": adapter,
        "distribution": distribution,
        "model": str(model),
        "input_names": [p.name for p in source.ports],
        "output_names": [],
        "shapes": [list(p.shape) for p in source.ports],
        "dtypes": [p.dtype for p in source.ports],
        "threads": limits.threads,
        "repeats": limits.repeats,
        "optimise": True,
        "each": True,
        "inspect": True,
    }


def _holds(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0
