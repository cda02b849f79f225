"""Time many files of one runtime, in one process, in turns: a slow second hits all of them.

Run as a script by the Python that has the runtime. A call is the runtime's own, with its inputs bound
before: what a network costs there, without what Python does to arrays.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LOW = 0.25  # of a file's calls so many were faster than the time that counts: nothing else ran then
WARM = 2


def time_files(
    runtime: str, files: Mapping[str, Path], *, rounds: int, calls: int
) -> tuple[dict[str, float], str]:
    """Return milliseconds a call by name (the lower quartile, one thread) and the runtime's version."""
    from dtp_edge.runtimes.environment import interpreter
    from dtp_edge.runtimes.registry import RUNTIMES

    job = {
        "runtime": runtime,
        "distribution": RUNTIMES[runtime].distribution,
        "files": {name: str(path.resolve()) for name, path in files.items()},
        "rounds": rounds,
        "calls": calls,
    }
    command = [interpreter(RUNTIMES[runtime]), str(Path(__file__).resolve())]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{runtime}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["times"], found["version"]


def _openvino(path: str) -> Callable[[], None]:
    import numpy as np
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        values = np.random.default_rng(0).normal(size=tuple(port.shape)).astype(np.float32)
        request.set_tensor(port, ov.Tensor(values))

    def run() -> None:
        request.infer()

    return run


def _litert(path: str) -> Callable[[], None]:
    spec = importlib.util.spec_from_file_location("litert", Path(__file__).with_name("litert_counters.py"))
    assert spec is not None
    assert spec.loader is not None
    litert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(litert)
    return litert.Compiled(litert.LiteRt(), path, profile=False).run


LOADERS = {"openvino": _openvino, "litert": _litert}


def _main() -> None:
    job = json.loads(input())
    calls = {name: LOADERS[job["runtime"]](path) for name, path in job["files"].items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(job["rounds"]):
        for name, call in calls.items():
            for _ in range(WARM):
                call()
            for _ in range(job["calls"]):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    found = {name: statistics.quantiles(each, n=round(1 / LOW))[0] for name, each in times.items()}
    print(json.dumps({"times": found, "version": importlib.metadata.version(job["distribution"])}))


if __name__ == "__main__":
    _main()
