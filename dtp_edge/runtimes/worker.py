"""Make one file, or run one in one runtime: a script that any interpreter can start, whose crash is its own.

Called as `python worker.py FOLDER`. It needs numpy and the runtime, not dtp_edge. FOLDER holds `job.json`
(adapter, distribution, model, input_names, threads, optimise, repeats) and `inputs.npz` (arrays `0`, `1`,
...); `version.json`, `outputs.npz` and then `result.json` (status, detail, latency_ms, facts) are written
there. `job["task"]` is run (the default) or make. With `each`, the inputs hold many samples that are run one
by one. With `inspect`, the adapter says of the file what it knows (`facts`): who computes what, and memory.
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
    if job.get("package"):
        own_package(os.path.join(job["package"], "dtp_edge"))
    spec = importlib.util.spec_from_file_location("adapter", job["adapter"])
    adapter = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(adapter)  # type: ignore[union-attr]
    if job.get("task") == "make":
        facts = adapter.make(job, inputs)
        return {"status": "ok", "detail": "", "facts": {**facts, "rewrites": job.get("rewritten", {})}}
    run = adapter.load(job)
    samples = [[x[i] for x in inputs] for i in range(len(inputs[0]))] if job.get("each") else [inputs]
    made = [[np.asarray(o) for o in run(sample)] for sample in samples]
    outputs = [np.stack(column) for column in zip(*made)] if job.get("each") else made[0]  # noqa: B905
    named: dict[str, Any] = {str(i): o for i, o in enumerate(outputs)}
    np.savez(os.path.join(job["folder"], "outputs.npz"), **named)
    repeats = job["repeats"] if getattr(adapter, "TIMED", True) else 0
    result = {"status": "ok", "latency_ms": latency_ms(run, samples[0], repeats), "detail": ""}
    if job.get("inspect") and hasattr(adapter, "inspect"):
        result["facts"] = inspected(adapter, job)
    return result


def own_package(folder: str) -> None:
    """Let `import dtp_edge` mean the one that asks: it need not be installed beside the exporter, and nothing
    else of where it is installed is seen.
    """
    path = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location("dtp_edge", path, submodule_search_locations=[folder])
    package = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules["dtp_edge"] = package
    spec.loader.exec_module(package)  # type: ignore[union-attr]


def inspected(adapter, job: dict) -> dict:
    """Return what the adapter knows of the file; what it cannot read is told and is no failure of the run."""
    try:
        return adapter.inspect(job)
    except Exception as error:
        traceback.print_exc()
        return {"unreadable": f"{type(error).__name__}: {error}"[:300]}


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
