"""Does the exported file load, run and agree in the runtimes that boards use? One row a runtime, always.

Every runtime works in a child process with limits of time and memory, so one that crashes is a row and
not the end. The truth is ONNX Runtime with all graph optimisations off: each node as the file says.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from dtp_edge.errors import InputError, nearest
from dtp_edge.remote import Remote
from dtp_edge.runtimes.child import Outcome, run_child, run_there
from dtp_edge.runtimes.registry import RUNTIMES, Runtime

HINT = "Check the path; `python -m onnx.checker FILE` says what is wrong with a file."

FP32_LIMIT = 1e-4  # of max(1, largest absolute reference output)
INT8_LIMIT = 1e-2  # of the reference output's range
PYTHON_VARIABLE = "DTP_EDGE_PYTHON_"  # + the runtime's name in capitals: the interpreter that has it


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime's answer. `status`: ok, failed, missing, crashed or timeout.

    `max_abs_diff` is against the reference, `relative_diff` the same over the range (largest minus smallest)
    of the reference output. `detail` says why where the status is not ok; `install` is the line that
    installs the runtime, "" where a file is missing and not the runtime.
    """

    runtime: str
    version: str | None
    status: str
    max_abs_diff: float | None
    relative_diff: float | None
    latency_ms: float | None
    detail: str
    install: str


def check_runtimes(
    path: str | Path,
    names: Sequence[str] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    timeout_s: float = 120.0,
    memory_bytes: int = 4 << 30,
    repeats: int = 0,
    threads: int = 1,
    interpreters: Mapping[str, str] | None = None,
    reference: str | Path | None = None,
    on: Remote | None = None,
) -> list[RuntimeRow]:
    """Run a file in each runtime and compare with ONNX Runtime, in the order of `names` (None: all known).

    **Arguments:**

    - `inputs`: arrays by input name; random normal numbers (seed 0) where left out.
    - `timeout_s`, `memory_bytes`: limits of each runtime, conversion and timing included.
    - `repeats`: how many timed runs give `latency_ms` (their median); 0 for none.
    - `interpreters`: the Python that has a runtime, by name. Default: `DTP_EDGE_PYTHON_<NAME>` of the
      environment, or else this one. Runtimes that pin other versions than ours live in their own environment.

    - `reference`: another file of this network whose outputs are the truth (fp32 for int8, say).
    - `on`: the board whose runtimes are tried, by its own Python; the truth is computed here.

    A `.tflite` runtime reads the file of the same stem beside `path`.

    Raises InputError for an unknown runtime, or a file that ONNX Runtime itself cannot run.
    """
    path = Path(path).resolve()
    chosen = [_known(name) for name in (names if names is not None else RUNTIMES)]
    job, arrays = _job(path, inputs)
    limits = {"timeout_s": timeout_s, "memory_bytes": memory_bytes}
    job |= {"threads": threads, "repeats": repeats}
    truth = {**job, "repeats": 0, "model": str(Path(reference or path).resolve())}
    expected = _run(RUNTIMES["onnxruntime"], truth, arrays, sys.executable, optimise=False, **limits)
    if expected.status != "ok":
        raise InputError(
            f"ONNX Runtime cannot run it: {expected.detail}", where=str(truth["model"]), hint=HINT
        )
    quantized = any(
        n.op_type == "QuantizeLinear" for n in onnx.load(str(path), load_external_data=False).graph.node
    )
    rows = []
    for runtime in chosen:
        model = path if runtime.reads == "onnx" else path.with_suffix(f".{runtime.reads}")
        if not model.is_file():
            detail = f"it reads .{runtime.reads}: write {model.name} beside the ONNX file first"
            rows.append(RuntimeRow(runtime.name, None, "missing", None, None, None, detail, install=""))
            continue
        python = interpreter(runtime, interpreters)
        made = {**job, "model": str(model)}
        if on is None:
            outcome = _run(runtime, made, arrays, python, optimise=True, **limits)
        else:
            outcome = run_there(on, _full(runtime, made, optimise=True), arrays)
        rows.append(_judge(runtime, outcome, expected.outputs, quantized))
    return rows


def list_runtimes() -> list[Runtime]:
    """Return the known runtimes, in the order in which they are checked."""
    return list(RUNTIMES.values())


def interpreter(runtime: Runtime, interpreters: Mapping[str, str] | None = None) -> str:
    """Return the Python that runs a runtime: the caller's choice, the environment's, or this one."""
    chosen = (interpreters or {}).get(runtime.name) or os.environ.get(PYTHON_VARIABLE + runtime.name.upper())
    return chosen or sys.executable


def _known(name: str) -> Runtime:
    if name not in RUNTIMES:
        close = nearest(name, RUNTIMES)
        known = "; ".join(f"{r.name} ({r.about})" for r in RUNTIMES.values())
        hint = f"Nearest: {', '.join(close)}." if close else f"Known: {known}."
        raise InputError(f"no runtime is called {name!r}", where="--runtime", hint=hint)
    return RUNTIMES[name]


def _job(path: Path, inputs: Mapping[str, np.ndarray] | None) -> tuple[dict[str, object], list[np.ndarray]]:
    """Describe the file's inputs and outputs, with an array for each input."""
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), hint=HINT)
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's error classes differ between versions
        raise InputError("it is not an ONNX file", where=str(path), hint=HINT) from error
    constants = {i.name for i in graph.initializer}
    random = np.random.default_rng(0)
    names, arrays = [], []
    for value in graph.input:
        if value.name in constants:
            continue
        given = None if inputs is None else inputs.get(value.name)
        if inputs is not None and given is None:
            raise InputError(
                f"no array for input {value.name!r}", where="inputs", hint=f"given: {list(inputs)}"
            )
        names.append(value.name)
        arrays.append(np.asarray(given) if given is not None else _random_input(value, random))
    job: dict[str, object] = {
        "model": str(path),
        "input_names": names,
        "output_names": [o.name for o in graph.output],
        "shapes": [list(a.shape) for a in arrays],
        "dtypes": [a.dtype.name for a in arrays],
    }
    return job, arrays


def _random_input(value: onnx.ValueInfoProto, random: np.random.Generator) -> np.ndarray:
    """Return a normal (integers: 0 or 1) array of an input's shape; open dimensions are 1."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = [d.dim_value if d.dim_value > 0 else 1 for d in value.type.tensor_type.shape.dim]
    values = random.normal(size=shape) if np.issubdtype(kind, np.floating) else random.integers(0, 2, shape)
    return np.asarray(values).astype(kind)


def _run(
    runtime: Runtime,
    job: Mapping[str, object],
    arrays: list[np.ndarray],
    python: str,
    *,
    optimise: bool,
    timeout_s: float,
    memory_bytes: int,
) -> Outcome:
    job = _full(runtime, job, optimise=optimise)
    with tempfile.TemporaryDirectory(prefix=f"dtp-edge-{runtime.name}-") as folder:
        return run_child(python, job, arrays, Path(folder), timeout_s, memory_bytes)


def _full(runtime: Runtime, job: Mapping[str, object], *, optimise: bool) -> dict[str, object]:
    return {
        **job,
        "adapter": str(runtime.adapter),
        "distribution": runtime.distribution,
        "optimise": optimise,
    }


def _judge(runtime: Runtime, outcome: Outcome, reference: list[np.ndarray], quantized: bool) -> RuntimeRow:
    """Compare outputs with the reference's, all of them, shapes by size (ncnn has no batch dimension)."""
    status, detail, largest, relative = outcome.status, outcome.detail, None, None
    if status == "missing":
        detail = f"{detail}; install: {runtime.install}"
    if status == "ok":
        sizes = [o.size for o in outcome.outputs]
        wanted = [r.size for r in reference]
        if sizes != wanted:
            status, detail = "failed", f"outputs have {sizes} elements, not {wanted}"
        else:
            largest, relative, excess = _difference(outcome.outputs, reference, quantized)
            if not excess <= 1.0:  # NaN is an excess too
                limit = f"{INT8_LIMIT:g} of range" if quantized else f"{FP32_LIMIT:g}"
                status = "failed"
                detail = (
                    f"differs from ONNX Runtime by {largest:.3g} ({relative:.3g} of range), limit {limit}"
                )
    return RuntimeRow(
        runtime.name, outcome.version, status, largest, relative, outcome.latency_ms, detail, runtime.install
    )


def _difference(
    outputs: list[np.ndarray], reference: list[np.ndarray], quantized: bool
) -> tuple[float, float, float]:
    """Return the largest absolute difference, the largest over its range, and the largest over its limit."""
    rows = []
    for got, want in zip(outputs, reference, strict=True):
        want = want.astype(np.float64).reshape(-1)
        difference = float(np.abs(got.astype(np.float64).reshape(-1) - want).max()) if want.size else 0.0
        extent = float(want.max() - want.min()) if want.size else 0.0
        extent = extent or max(1.0, float(np.abs(want).max(initial=0.0)))
        limit = (
            INT8_LIMIT * extent if quantized else FP32_LIMIT * max(1.0, float(np.abs(want).max(initial=0.0)))
        )
        rows.append((difference, difference / extent, difference / limit))
    return tuple(float(column) for column in np.array(rows).max(axis=0))  # pyright: ignore[reportReturnType]  # max keeps NaN
