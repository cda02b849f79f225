"""Time many ONNX files in one runtime, in one process, in turns: a slow second hits all of them.

`time_in_turns` starts this file as a script under the Python that has the runtime, where it needs numpy and
the runtime only. Files that a runtime converts (ncnn) are converted once and kept in `work`; where it reads
another format (`.pte`, `.tflite`), that file is made once beside the ONNX file (`maker.py`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOW = 0.25  # of a file's runs so many were faster than the time that counts: nothing else ran then


def time_in_turns(
    runtime_name: str, files: Sequence[Path], work: Path, *, rounds: int = 8, repeats: int = 10
) -> tuple[dict[str, float], str]:
    """Return milliseconds a call by file stem (the lower quartile of `rounds` x `repeats` runs, one thread),
    and the runtime's version.
    """
    from benchmarks.runtimes.maker import make_files

    made = make_files(runtime_name, files, work)
    models = {path.stem: (path, model) for path, model in zip(files, made, strict=True)}
    return time_models(runtime_name, models, work, rounds=rounds, repeats=repeats)


def time_models(
    runtime_name: str,
    models: Mapping[str, tuple[Path, Path]],
    work: Path,
    *,
    rounds: int = 8,
    repeats: int = 10,
) -> tuple[dict[str, float], str]:
    """Do so with files that are there: by name the ONNX file, whose inputs they have, and what is loaded."""
    from dtp_edge.runtimes import list_runtimes
    from dtp_edge.runtimes.environment import interpreter

    (runtime,) = [r for r in list_runtimes() if r.name == runtime_name]
    jobs = [
        {**_inputs(path), "model": str(model.resolve()), "name": name}
        for name, (path, model) in models.items()
    ]
    for job in jobs:
        job |= {"threads": 1, "optimise": True, "folder": str(work.resolve() / runtime_name / job["name"])}
        Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    order = work / f"{runtime_name}.jobs.json"
    whole = {"adapter": str(runtime.adapter), "distribution": runtime.distribution, "jobs": jobs}
    order.write_text(json.dumps(whole | {"rounds": rounds, "repeats": repeats}))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [interpreter(runtime), str(Path(__file__).resolve()), str(order.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{runtime_name}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["times"], found["version"]


def _inputs(path: Path) -> dict[str, object]:
    import onnx

    (value,) = onnx.load(str(path), load_external_data=False).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return {"input_names": [value.name], "shapes": [shape], "dtypes": ["float32"]}


def _main(order: str) -> None:
    import numpy as np

    with open(order, encoding="utf-8") as stream:
        job = json.load(stream)
    spec = importlib.util.spec_from_file_location("adapter", job["adapter"])
    assert spec is not None
    assert spec.loader is not None
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    if hasattr(adapter, "convert"):
        adapter.convert = _kept(adapter.convert)
    calls = {}
    for one in job["jobs"]:
        x = np.random.default_rng(0).normal(size=one["shapes"][0]).astype(np.float32)
        calls[one["name"]] = (adapter.load(one), [x])
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(job["rounds"]):
        for name, (call, inputs) in calls.items():
            call(inputs)
            call(inputs)
            for _ in range(job["repeats"]):
                start = time.perf_counter()
                call(inputs)
                times[name].append(time.perf_counter() - start)
    found = {n: 1e3 * statistics.quantiles(t, n=round(1 / LOW))[0] for n, t in times.items() if len(t) > 1}
    print(json.dumps({"times": found, "version": importlib.metadata.version(job["distribution"])}))


def _kept(convert):
    """Convert a file only where what was made of it before is older than the file."""

    def once(job):
        stem = os.path.join(job["folder"], "model")
        made = stem + ".ncnn.param"
        if os.path.exists(made) and os.path.getmtime(made) > os.path.getmtime(job["model"]):
            return stem
        return convert(job)

    return once


if __name__ == "__main__":
    sys.path.pop(0)  # this script's own folder: its files are no packages
    _main(sys.argv[1])
