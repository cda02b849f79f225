"""Run one file in one runtime: a script that any interpreter can start, whose crash is its own.

Called as `python worker.py FOLDER`. It needs numpy and the runtime, not dtp_edge. FOLDER holds `job.json`
(adapter, distribution, model, input_names, threads, optimise, repeats) and `inputs.npz` (arrays `0`, `1`,
...); `version.json`, `outputs.npz` and then `result.json` (status, detail, latency_ms) are written there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import time
import traceback
from typing import Any


def main(folder: str) -> None:
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    job["folder"] = folder
    version = version_of(job["distribution"])
    with open(os.path.join(folder, "version.json"), "w", encoding="utf-8") as file:
        json.dump(version, file)  # at once: a crash leaves nothing else
    try:
        result = work(job)
    except ImportError as error:
        # the runtime itself absent, or one of its own parts: both are cured by installing it
        result = {"status": "missing", "detail": str(error)}
    except Exception as error:
        traceback.print_exc()
        result = {"status": "failed", "detail": f"{type(error).__name__}: {error}"}
    temporary = os.path.join(folder, "result.json.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(temporary, os.path.join(folder, "result.json"))


def work(job: dict) -> dict:
    import numpy as np

    with np.load(os.path.join(job["folder"], "inputs.npz"), allow_pickle=False) as stored:
        inputs = [np.ascontiguousarray(stored[str(i)]) for i in range(len(stored.files))]
    spec = importlib.util.spec_from_file_location("adapter", job["adapter"])
    adapter = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(adapter)  # type: ignore[union-attr]
    run = adapter.load(job)
    outputs = [np.asarray(o) for o in run(inputs)]
    named: dict[str, Any] = {str(i): o for i, o in enumerate(outputs)}
    np.savez(os.path.join(job["folder"], "outputs.npz"), **named)
    return {"status": "ok", "latency_ms": latency_ms(run, inputs, job["repeats"]), "detail": ""}


def latency_ms(run, inputs, repeats: int):
    """Return the median time of a run in milliseconds after three to warm up; None where none was asked."""
    if not repeats:
        return None
    for _ in range(3):
        run(inputs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def version_of(distribution: str):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.path.pop(0)  # this script's own folder: its files are no packages
    main(sys.argv[1])
