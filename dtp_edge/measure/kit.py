"""`profile kit`: a zip that measures a board; `profile import`: its results become a profile.

The zip holds probe networks as ONNX files, a manifest, and one script that needs nothing but Python,
numpy and onnxruntime. The script writes `results.json`: per network the latency of a call and the node
times of ONNX Runtime's profiler, as numbers and shapes only. The import trusts nothing in that file. It is
checked here and not by a schema: what matters is relations (nodes take no longer than the call), not types.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, read_json, whole_file
from dtp_edge.measure.digest import digest
from dtp_edge.measure.machine import reference_network
from dtp_edge.measure.node_times import NetworkTimes, NodeTime
from dtp_edge.measure.probe_nets import probe_network
from dtp_edge.measure.procedure import profile_document
from dtp_edge.profiles.profile import Profile, parse_profile

HINT = "Run the kit on the board again, and bring its results.json back unchanged."

KIT_VERSION = 2  # 1 timed a probe as its reference, which no other measurement does
PROBES = 240
MAX_RESULT_BYTES = 64 * 1024 * 1024
_BOUNDS = Bounds(values=2_000_000)
SCRIPT = Path(__file__).with_name("kit_script.py")
README = """Measure this board for dtp_edge

1. Python 3.8 or newer with numpy and onnxruntime must be on the board.
2. Stop other programs; let the board cool down; plug it in.
3. Unpack this zip on the board and run:   python measure.py --threads 1
4. Bring results.json back and run:        dtp-edge profile import results.json --name my-board
"""
_NODE_KEYS = {"op", "blocked", "inputs", "outputs", "us", "activation"}


def write_kit(path: str | os.PathLike[str], probes: int = PROBES, progress: Callable | None = None) -> Path:
    """Write the zip (some 60 MB) and return its path. Raises `InputError` if it cannot be written."""
    target = Path(path)
    if target.is_dir():
        raise InputError("is a folder", where=str(target), hint="Name the zip to write in it: kit.zip.")
    with whole_file(target) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README)
        archive.write(SCRIPT, "measure.py")
        manifest = {"kit_version": KIT_VERSION, "networks": [_name(i) for i in range(probes)]}
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("networks/reference.onnx", reference_network())
        for index in range(probes):
            archive.writestr(f"networks/{_name(index)}", probe_network(index))
            if progress is not None:
                progress(index + 1, probes, "writing probe networks")
    return target


def import_results(path: str | os.PathLike[str], name: str | None = None) -> Profile:
    """Return the profile of the board that wrote `results.json`.

    Raises `InputError` with the JSON path of the first field that is missing, of the wrong type, not
    finite, not positive or out of all bounds; and for results too few to fit.
    """
    source = Path(path)
    return import_document(_read(source), str(source), name, source.name)


def import_document(document: Any, where: str, name: str | None = None, file: str | None = None) -> Profile:
    """Return the profile of what the kit's script found; `where` and its `file`, if any, say whence it came.

    Raises `InputError` as `import_results` does.
    """
    if not isinstance(document, dict):
        raise InputError("results are one JSON object", where=where, hint=HINT)
    if document.get("kit_version") != KIT_VERSION:
        version = document.get("kit_version")
        raise InputError(f"kit version {version!r} is unknown", where=f"{where}: $.kit_version", hint=HINT)
    board = _member(document, "board", dict, f"{where}: $")
    networks = _member(document, "networks", list, f"{where}: $")
    threads = int(_number(document, "threads", 1, 1024, f"{where}: $"))
    if len(networks) < 20:
        raise InputError(
            f"only {len(networks)} networks were measured; 20 are needed", where=where, hint=HINT
        )
    times = [_network(item, f"{where}: $.networks[{i}]") for i, item in enumerate(networks)]
    reference = [
        _number(item, "reference_ms", 1e-4, 1e6, f"{where}: $.networks[{i}]")
        for i, item in enumerate(networks)
    ]
    facts = _facts(board, f"{where}: $.board")
    date = _text(document, "date", f"{where}: $")
    label = name or f"board-onnxruntime-fp32-{threads}t"
    made = profile_document(digest(times, reference), facts, threads, label, date)
    made["provenance"]["source"] = f"dtp-edge profile kit, run on the board ({file or where})"
    made["provenance"]["recipe"] = (
        f"dtp-edge profile import {file} --name {label}" if file else f"dtp-edge profile measure --on {where}"
    )
    made["description"] = f"Measured on the board with the kit: {facts['chip']}, {threads} thread(s)."
    return parse_profile(made)


def _read(path: Path) -> Any:
    return read_json(path, most_bytes=MAX_RESULT_BYTES, hint=HINT, bounds=_BOUNDS)


def _network(item: Any, where: str) -> NetworkTimes:
    if not isinstance(item, dict):
        raise InputError("is not an object", where=where, hint=HINT)
    nodes = _member(item, "nodes", list, where)
    if not 1 <= len(nodes) <= 5000:
        raise InputError(f"{len(nodes)} nodes", where=f"{where}.nodes", hint=HINT)
    found = tuple(_node(node, f"{where}.nodes[{i}]") for i, node in enumerate(nodes))
    latency = _number(item, "latency_us", 1e-1, 1e9, where)
    total = sum(node.us for node in found)
    if not latency / 20 <= total <= 20 * latency + 100 * len(found):
        raise InputError(
            f"its nodes take {total:.4g} us in all, a call {latency:.4g} us: one of them is wrong",
            where=f"{where}.latency_us",
            hint=HINT,
        )
    return NetworkTimes(found, latency, _number(item, "spread", 0.0, 1e3, where))


def _node(node: Any, where: str) -> NodeTime:
    if not isinstance(node, dict) or set(node) | {"activation"} != _NODE_KEYS:
        raise InputError(f"is not an object of {', '.join(sorted(_NODE_KEYS))}", where=where, hint=HINT)
    if not isinstance(node["blocked"], bool):
        raise InputError("is not true or false", where=f"{where}.blocked", hint=HINT)
    activation = node.get("activation", "")
    if not isinstance(activation, str) or len(activation) > 40:
        raise InputError("is not a short text", where=f"{where}.activation", hint=HINT)
    return NodeTime(
        op=_text(node, "op", where),
        activation=activation,
        blocked=node["blocked"],
        inputs=_shapes(node["inputs"], f"{where}.inputs"),
        outputs=_shapes(node["outputs"], f"{where}.outputs"),
        us=_number(node, "us", 1e-3, 1e9, where),
    )


def _shapes(value: Any, where: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise InputError("is not a list of shapes", where=where, hint=HINT)
    for index, shape in enumerate(value):
        good = isinstance(shape, list) and len(shape) <= 8
        if not good or any(type(d) is not int or not 0 <= d <= 1 << 24 for d in shape):
            raise InputError(f"{str(shape)[:60]} is not a shape", where=f"{where}[{index}]", hint=HINT)
    return tuple(tuple(shape) for shape in value)


def _facts(board: dict[str, Any], where: str) -> dict[str, Any]:
    texts = {key: _text(board, key, where) for key in ("name", "chip", "cores", "runtime_version")}
    bounds = {
        "clock_mhz": (1.0, 1e5),
        "ram_bytes": (1e4, 1e14),
        "memory_bytes_per_second": (1e4, 1e14),
    }
    return {**texts, **{key: _number(board, key, *limits, where) for key, limits in bounds.items()}}


def _member(holder: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = holder.get(key)
    if not isinstance(value, kind):
        raise InputError(f"is missing or not a {kind.__name__}", where=f"{where}.{key}", hint=HINT)
    return value


def _number(holder: dict[str, Any], key: str, low: float, high: float, where: str) -> float:
    value = holder.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{str(value)[:60]!r} is not a number", where=f"{where}.{key}", hint=HINT)
    if not low <= value <= high:
        raise InputError(f"{value!r} is not between {low:g} and {high:g}", where=f"{where}.{key}", hint=HINT)
    return float(value)


def _text(holder: dict[str, Any], key: str, where: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 300:
        raise InputError(f"{str(value)[:60]!r} is not a short text", where=f"{where}.{key}", hint=HINT)
    return value


def _name(index: int) -> str:
    return f"probe{index:04d}.onnx"
