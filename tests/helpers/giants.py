"""Files of 4 MiB that are made to take long: the most of one thing that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtp_edge.archive import load_pruned
from dtp_edge.errors import InputError
from dtp_edge.fitting.own_latencies import read_measured
from dtp_edge.fitting.rows import read_csv
from dtp_edge.measure import import_results, load_profile
from dtp_edge.profiles import profiles_dir
from dtp_edge.report import read_report

MEBIBYTES_4 = 4 * 2**20
NODE = {"op": "Conv", "blocked": False, "inputs": [[1, 3, 8, 8]], "outputs": [[1, 3, 8, 8]], "us": 10.0}
NETWORK = {"nodes": [NODE], "latency_us": 11.0, "spread": 0.1, "reference_ms": 1.0}
BOARD = {
    **{"name": "b", "chip": "c", "cores": "4", "runtime_version": "1"},
    **{"clock_mhz": 1000.0, "ram_bytes": 1e9, "memory_bytes_per_second": 1e9},
}
KIT = {"kit_version": 2, "threads": 1, "date": "2026-01-01", "board": BOARD, "networks": [NETWORK] * 25}
PRUNED: dict[str, Any] = {
    **{"format": "dtp_edge.pruned", "version": 1, "widths": {}, "kept": {}, "tensors": {}},
    "inputs": [{"shape": [1], "dtype": "float32"}],
}


def profile() -> dict[str, Any]:
    return json.loads((profiles_dir() / "rpi4-ncnn-fp32-1t.json").read_text())


def _with(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    document = profile()
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def _table(rows: list[Any], columns: int) -> dict[str, Any]:
    table = {"form": "table", "columns": ["x"] * columns, "rows": rows, "base": {}, "source": "s"}
    return _with(("kernels", "conv"), table)


def _chain(count: int) -> list[dict[str, Any]]:
    nodes = [{"name": "x", "op": "placeholder", "target": "x", "args": [], "kwargs": {}}]
    for i in range(count):
        last = {"node": nodes[-1]["name"]}
        call = {"op": "call_function", "target": "aten.relu.default", "args": [last], "kwargs": {}}
        nodes.append({"name": f"n{i}", **call})
    end = {"name": "output", "op": "output", "target": "output", "kwargs": {}}
    return [*nodes, {**end, "args": [{"node": nodes[-1]["name"]}]}]


PROFILES: dict[str, Callable[[], Any]] = {
    "keys": lambda: {**profile(), **{f"k{i}": 0 for i in range(300_000)}},
    "keys below": lambda: _with(("kernels", "conv", "op_factor"), {f"k{i}": 1.0 for i in range(250_000)}),
    "kernels": lambda: _with(("kernels",), {f"conv_a{i}": {"form": "x"} for i in range(130_000)}),
    "rows of texts": lambda: _table([["ab"] * 1000] * 650, 1000),
    "rows": lambda: _table([[1, 2]] * 500_000, 2),
    "wide rows": lambda: _table([[1] * 32] * 40_000, 32),
    "one row too wide": lambda: _table([[1] * 1_300_000], 2),
    "items": lambda: _with(("fusion", "activations"), [[]] * 1_000_000),
    "objects": lambda: _with(("fusion", "activations"), [{}] * 1_000_000),
    "long texts": lambda: _with(("description",), "a" * 4_000_000),
    "long keys": lambda: _with(("limits",), {"k" * 19_000 + str(i): {} for i in range(200)}),
    "version": lambda: _with(("schema_version",), ["a" * 1000] * 4000),
}
KITS: dict[str, Callable[[], Any]] = {
    "nodes": lambda: {**KIT, "networks": [{**NETWORK, "nodes": [NODE] * 4900}] * 7},
    "networks": lambda: {**KIT, "networks": [NETWORK] * 22_000},
    "shapes": lambda: {**KIT, "networks": [{**NETWORK, "nodes": [{**NODE, "inputs": [[1]] * 800_000}]}]},
    "wrong shape": lambda: {**KIT, "networks": [{**NETWORK, "nodes": [{**NODE, "us": [1] * 10**5}]}] * 12},
}
PRUNEDS: dict[str, Callable[[], Any]] = {
    "nodes": lambda: {**PRUNED, "graph": _chain(9_900)},
    "too many nodes": lambda: {**PRUNED, "graph": _chain(40_000)},
    "bare nodes": lambda: {**PRUNED, "graph": [{}] * 1_000_000},
    "wrong nodes": lambda: {**PRUNED, "graph": [[1]] * 900_000},
    "tensors": lambda: {**PRUNED, "graph": _chain(1), "tensors": {f"t{i}": {} for i in range(300_000)}},
    "widths": lambda: {**PRUNED, "graph": _chain(1), "widths": {f"w{i}": [1, 2] for i in range(200_000)}},
    "nested": lambda: {**PRUNED, "graph": json.loads("[" * 900 + "]" * 900)},
    "arguments": lambda: {**PRUNED, "graph": [{**_chain(1)[1], "args": [[1] * 1_900_000]}]},
}
TABLES: dict[str, Callable[[], str]] = {
    "lines": lambda: "network,latency_ms\n" + "a,1\n" * 1_000_000,
    "blank lines": lambda: "network,latency_ms\n" + "\n" * 4_000_000,
    "columns": lambda: "a," * 2_000_000 + "\n1\n",
    "short lines": lambda: ",".join(f"c{i}" for i in range(200)) + "\n" + "1\n" * 190_000,
    "one field": lambda: "network,latency_ms\n" + "a" * 4_000_000,
    "one quote": lambda: 'network,latency_ms\n"' + "a,b\n" * 1_000_000,
}


def reports() -> dict[str, Any]:
    good = json.loads((Path(__file__).parents[1] / "report" / "example_report.json").read_text())
    lists = {key: value for key, value in good.items() if isinstance(value, list) and value}
    many = {f"many {k}": {**good, k: v * (2_500_000 // len(json.dumps(v)))} for k, v in lists.items()}
    return {**many, "keys": {**good, **{f"k{i}": 0 for i in range(300_000)}}}


def read(kind: str, content: Any, folder: Path) -> str:
    """Write one of them and read it as a user's command would; return what was said."""
    text = content if isinstance(content, str) else json.dumps(content)
    name = {"profile": "p.json", "kit": "r.json", "pruned": "widths.json", "report": "report.json"}.get(kind)
    path = folder / (name or "t.csv")
    path.write_text(text[: MEBIBYTES_4 - 100] if kind == "table" else text)
    try:
        if kind == "profile":
            load_profile(path)
        elif kind == "kit":
            import_results(path, "x")
        elif kind == "pruned":
            (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
            load_pruned(folder)
        elif kind == "report":
            read_report(path)
        else:
            read_csv(path)
            read_measured(path, path, load_profile("rpi4-ncnn-fp32-1t"))
    except InputError as error:
        return str(error)
    return "read"
