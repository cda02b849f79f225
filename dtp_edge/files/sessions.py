"""The one place where ONNX Runtime opens a model: on the CPU, every number of threads and setting named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from dtp_edge.errors import InputError, first_line

HINT = "Check the path; `python -m onnx.checker FILE` says what is wrong with a file."
NUMPY_TYPES = {  # of an input or output as a session names it
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def open_session(
    model: Path | bytes,
    *,
    threads: int = 1,
    optimise: bool = True,
    entries: Mapping[str, str] | None = None,
    profile_prefix: str | None = None,
    where: str = "ONNX model",
    hint: str = HINT,
) -> ort.InferenceSession:
    """Open a file, or the bytes of one, in ONNX Runtime on the CPU.

    **Arguments:**

    - `threads`: within one operator; operators run one after the other.
    - `optimise`: fuse and reorder; without it every node runs as the file says.
    - `entries`: further settings by ONNX Runtime's own keys.
    - `profile_prefix`: where the runtime's profiler writes; None for no profiler.
    - `where`, `hint`: for the error, where the model is bytes; a file is named by its path.

    **Raises:** `InputError` where the file is missing or ONNX Runtime refuses it.
    """
    if isinstance(model, Path):
        where = str(model)
        if not model.is_file():
            raise InputError("there is no such file", where=where, hint=hint)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what it refuses comes back as an error of ours
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    if profile_prefix is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    try:
        given = model if isinstance(model, bytes) else str(model)
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
        raise InputError(
            f"ONNX Runtime cannot load it: {first_line(error)}", where=where, hint=hint
        ) from error
