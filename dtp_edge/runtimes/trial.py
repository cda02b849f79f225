"""Does the exported file load, run and agree in the runtimes that boards use? One row a runtime, always.

Every runtime works in a child process with limits of time and memory, so one that crashes is a row and
not the end. The truth is ONNX Runtime with all graph optimisations off: each node as the file says.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dtp_edge.errors import InputError, nearest
from dtp_edge.remote import Remote
from dtp_edge.runtimes.apart import FP32_LIMIT, INT8_LIMIT, difference
from dtp_edge.runtimes.child import Outcome, run_child, run_there
from dtp_edge.runtimes.environment import interpreter
from dtp_edge.runtimes.placement import Placement, placement_of
from dtp_edge.runtimes.registry import RUNTIMES, Runtime

HINT = "Check the path; `python -m onnx.checker FILE` says what is wrong with a file."


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime's answer. `status`: ok, failed, missing, crashed or timeout.

    `max_abs_diff` is against the reference, `relative_diff` the same over the range (largest minus smallest)
    of the reference output. `detail` says why where the status is not ok; `install` is the line that
    installs the runtime, "" where a file is missing and not the runtime. `placement` says who computes what,
    where the runtime can be asked; `memory_bytes` is what it sets aside for activations (`memory_of`: which).
    """

    runtime: str
    version: str | None
    status: str
    max_abs_diff: float | None
    relative_diff: float | None
    latency_ms: float | None
    detail: str
    install: str
    placement: Placement | None = None
    memory_bytes: int | None = None
    memory_of: str = ""


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
    inspect: bool = True,
    kernels: Sequence[tuple[str, float]] | None = None,
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
    - `inspect`: ask each runtime who computes what; `kernels` are ours, (kind, predicted ms) in running
      order, of which the shares are then shares.

    A `.tflite` or `.pte` runtime reads the file of the same stem beside `path`.

    Raises InputError for an unknown runtime, or a file that ONNX Runtime itself cannot run.
    """
    path = Path(path).resolve()
    chosen = [_known(name) for name in (names if names is not None else RUNTIMES)]
    job, arrays = _job(path, inputs)
    limits = {"timeout_s": timeout_s, "memory_bytes": memory_bytes}
    job |= {"threads": threads, "repeats": repeats, "inspect": inspect}
    truth = {**job, "repeats": 0, "inspect": False, "model": str(Path(reference or path).resolve())}
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
        row = _judge(runtime, outcome, expected.outputs, quantized)
        rows.append(replace(row, **told(outcome.facts, kernels)))
    return rows


def told(facts: Mapping[str, Any], kernels: Sequence[tuple[str, float]] | None) -> dict[str, Any]:
    """Return placement and memory of what an adapter said of a file; what it did not say is left out."""
    size = facts.get("memory_bytes")
    return {
        "placement": placement_of(facts, kernels),
        "memory_bytes": int(size) if isinstance(size, int | float) and size >= 0 else None,
        "memory_of": str(facts.get("memory_of", ""))[:200],
    }


def list_runtimes() -> list[Runtime]:
    """Return the known runtimes, in the order in which they are checked."""
    return list(RUNTIMES.values())


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
            largest, relative, excess = difference(outcome.outputs, reference, quantized=quantized)
            if not excess <= 1.0:  # NaN is an excess too
                limit = f"{INT8_LIMIT:g} of range" if quantized else f"{FP32_LIMIT:g}"
                status = "failed"
                detail = (
                    f"differs from ONNX Runtime by {largest:.3g} ({relative:.3g} of range), limit {limit}"
                )
    return RuntimeRow(
        runtime.name, outcome.version, status, largest, relative, outcome.latency_ms, detail, runtime.install
    )
