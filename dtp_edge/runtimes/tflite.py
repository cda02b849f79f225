"""TensorFlow Lite for microcontrollers: .tflite from a pruned network, and Vela's estimate for Ethos-U.

The converter is that of `--format tflite`, which also reads the file back and compares it: this function
converts alone. It lives in the environment of LiteRT (`dtp-edge env litert`); `DTP_EDGE_PYTHON_VELA` names
the one with ethos-u-vela.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.runtimes.child import run_child
from dtp_edge.runtimes.environment import interpreter as python_with
from dtp_edge.runtimes.formats.registry import FORMATS
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.runtimes.rewrites import rewrites_of

MEMORY_BYTES = 8 << 30
CONVERTERS_HINT = "Its last words say why; model.onnx of the run is not touched by this."


@dataclass(frozen=True)
class VelaEstimate:
    """What Vela expects of an int8 file on an Ethos-U: a compiler's model, not silicon.

    `npu_cycles` counts the accelerator alone, `total_cycles` memory transfers that are waited for as well.
    """

    accelerator: str
    total_cycles: int
    npu_cycles: int
    inference_ms: float
    sram_bytes: int
    flash_bytes: int
    version: str


def export_tflite(
    pruned: str | Path,
    path: str | Path,
    input_shape: Sequence[int],
    *,
    calibration: Iterable[np.ndarray] | None = None,
    channels_last: bool | None = None,
    interpreter: str | None = None,
    timeout_s: float = 600.0,
) -> Path:
    """Write a .tflite file of the pruned network in the folder `pruned` (as `save_pruned` leaves it).

    **Arguments:**

    - `input_shape`: of the one input, batch 1 first, as torch has it: `(1, channels, height, width)`.
    - `calibration`: batches of inputs `[batch, ...]`; with them the file is int8, without fp32.
    - `channels_last`: whether the file's input is `[1, height, width, channels]`, as microcontrollers expect;
      default: where the input has four dimensions.

    Raises UnsupportedError where the converter is not installed, CheckError where it fails.
    """
    path, one = Path(path).resolve(), FORMATS["tflite"]
    runtime = RUNTIMES[one.runtime]
    python = interpreter or python_with(runtime)
    samples = [] if calibration is None else [_samples(calibration, input_shape)[:, None]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tflite-") as folder:
        draft = Path(folder) / "draft.tflite"
        job = {
            "task": "make",
            "adapter": str(one.maker),
            "distribution": runtime.distribution,
            "format": one.name,
            "package": str(Path(__file__).parents[2]),
            "pruned": str(Path(pruned).resolve()),
            "target": str(draft),
            "inputs": [{"shape": [1, *input_shape[1:]], "dtype": "float32"}],
            "precision": "fp32" if calibration is None else "int8",
            "rewrites": [rewrite.name for rewrite in rewrites_of(one.name) if rewrite.default],
            "channels_last": True if channels_last is None else channels_last,
            "threads": 1,
        }
        made = run_child(python, job, samples, Path(folder), timeout_s, MEMORY_BYTES)
        if made.status == "missing":
            hint = f"`dtp-edge env {runtime.name}` makes an environment that has it."
            raise UnsupportedError(f"{python} cannot convert: {made.detail}", hint=hint)
        if made.status != "ok":
            raise CheckError(
                f"the converter {made.status}: {made.detail}", where=str(path), hint=CONVERTERS_HINT
            )
        if not draft.is_file():
            raise CheckError("the converter wrote no file", where=str(path), hint=CONVERTERS_HINT)
        os.replace(draft, path)
    return path


def vela_estimate(
    tflite: str | Path,
    accelerator: str = "ethos-u55-128",
    *,
    interpreter: str | None = None,
    timeout_s: float = 600.0,
) -> VelaEstimate:
    """Compile an int8 .tflite file with Vela for an Ethos-U and return what it expects.

    Raises UnsupportedError where ethos-u-vela is not installed, CheckError where it refuses the file (fp32).
    """
    python = interpreter or os.environ.get("DTP_EDGE_PYTHON_VELA") or sys.executable
    with tempfile.TemporaryDirectory(prefix="dtp-edge-vela-") as folder:
        command = [python, "-m", "ethosu.vela", str(Path(tflite).resolve())]
        command += ["--accelerator-config", accelerator, "--output-dir", folder]
        _call(command, timeout_s, missing=("ethosu",), install='pip install "dtp-edge[vela]"')
        summaries = sorted(Path(folder).glob("*summary*.csv"))
        if not summaries:
            raise CheckError(
                "Vela wrote no summary",
                where=str(tflite),
                hint="The file must be int8: give `export_tflite` a calibration.",
            )
        with summaries[0].open(newline="") as stream:
            row = next(csv.DictReader(stream))
    version = _version(python, "ethos-u-vela")
    return VelaEstimate(
        accelerator=accelerator,
        total_cycles=int(float(row["cycles_total"])),
        npu_cycles=int(float(row["cycles_npu"])),
        inference_ms=1e3 * float(row["inference_time"]),
        sram_bytes=int(1024 * float(row["sram_memory_used"])),
        flash_bytes=int(1024 * float(row.get("off_chip_flash_memory_used") or 0)),
        version=version,
    )


def _samples(calibration: Iterable[np.ndarray], input_shape: Sequence[int]) -> np.ndarray:
    samples = np.concatenate([np.asarray(batch, dtype=np.float32) for batch in calibration])
    if samples.shape[1:] != tuple(input_shape[1:]):
        raise InputError(
            f"samples are {samples.shape[1:]}, the input is {tuple(input_shape[1:])}",
            where="calibration",
            hint="Give float arrays [N, C, H, W], normalised as for training.",
        )
    return samples


def _call(command: list[str], timeout_s: float, *, missing: Sequence[str], install: str) -> None:
    """Run a converter; an absent package and a failure become errors with the program's last words."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except OSError as error:
        raise InputError(
            f"it cannot be started: {error.strerror}",
            where=command[0],
            hint="Name a Python that has it (DTP_EDGE_PYTHON_VELA).",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CheckError(
            f"{Path(command[1]).name} took more than {timeout_s:g} s", hint="Give it longer with timeout_s=."
        ) from error
    if done.returncode == 0:
        return
    words = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"]
    absent = [
        m for m in missing if any(f"No module named '{m}" in w or f"No module named {m}" in w for w in words)
    ]
    if absent:
        raise UnsupportedError(f"{absent[0]} is not installed in {command[0]}", hint=f"Install it: {install}")
    raise CheckError(
        f"{Path(command[1]).name} ended with code {done.returncode}: {words[-1][:300]}",
        hint="The converter's last words say why; model.onnx of the run is not touched by this.",
    )


def _version(python: str, distribution: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
