"""Make the files of many networks in a vendor's environment, in one process: its imports are paid once.

`make_files` starts this file as a script under the Python that has the runtime. `NAME.pte` or `NAME.tflite`
is made of the folder `NAME`, as `store` leaves it, by the maker that `--format` uses; files that are there
stay.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).parents[2]


def store(folder: Path, module: Any, example: Any) -> None:
    """Store a network as makers read it."""
    import numpy as np

    from dtp_edge.archive import save_pruned
    from dtp_edge.graph import trace_network
    from dtp_edge.surgery import compact

    network = trace_network(module.eval(), (example,))
    keep = np.ones(network.n_atoms, dtype=bool)
    folder.mkdir(parents=True, exist_ok=True)
    save_pruned(folder, compact(network, keep), network, keep, {})


def make_files(runtime_name: str, files: Sequence[Path], work: Path) -> list[Path]:
    """Return the files that a runtime reads of these ONNX files; make those that are not there."""
    from dtp_edge.runtimes import list_runtimes
    from dtp_edge.runtimes.environment import interpreter
    from dtp_edge.runtimes.formats.registry import FORMATS
    from dtp_edge.runtimes.rewrites import rewrites_of

    (runtime,) = [r for r in list_runtimes() if r.name == runtime_name]
    if runtime.reads == "onnx":
        return list(files)
    form = FORMATS[runtime.reads]
    targets = [path.with_suffix(f".{runtime.reads}") for path in files]
    jobs = [
        {
            **input_of(path),
            "format": form.name,
            "pruned": str(path.with_suffix("").resolve()),
            "target": str(target.resolve()),
            "precision": "fp32",
            "rewrites": [r.name for r in rewrites_of(form.name) if r.default],
        }
        for path, target in zip(files, targets, strict=True)
        if not target.is_file()
    ]
    if jobs:
        work.mkdir(parents=True, exist_ok=True)
        order = work / f"{form.name}.make.json"
        order.write_text(json.dumps({"maker": str(form.maker), "jobs": jobs}))
        command = [interpreter(runtime), str(Path(__file__).resolve()), str(order.resolve())]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return targets


def input_of(path: Path) -> dict[str, Any]:
    import onnx

    (value,) = onnx.load(str(path), load_external_data=False).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return {"inputs": [{"name": value.name, "shape": shape, "dtype": "float32"}]}


def _main(order: str) -> None:
    with open(order, encoding="utf-8") as stream:
        whole = json.load(stream)
    _module("worker", PACKAGE / "dtp_edge/runtimes/worker.py").own_package(str(PACKAGE / "dtp_edge"))
    import torch

    torch.set_num_threads(1)
    maker = _module("maker", whole["maker"])
    if hasattr(maker, "planned"):
        maker.planned = lambda module, example: {}  # a plan of memory takes as long as the file
    for job in whole["jobs"]:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            maker.make({**job, "folder": folder}, [])
        print(f"{os.path.basename(job['target'])}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def _module(name: str, path: str | Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.path.pop(0)  # this script's own folder: its files are no packages
    _main(sys.argv[1])
