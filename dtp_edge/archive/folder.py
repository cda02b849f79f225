"""Files that last: `model.safetensors` with the weights, `widths.json` with everything else.

`widths.json` holds the compact network itself as a graph of ATen operators in plain JSON, so that it loads
in another process, on another machine, next year, without the code that defined the dense network, without
pickle and without the pruning run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import torch
from jsonschema.exceptions import best_match
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from dtp_edge.archive.graph_json import DTYPES, graph_from_json, graph_to_json, tensor_name_fault
from dtp_edge.archive.like import in_class_of
from dtp_edge.archive.rehearsal import rehearse
from dtp_edge.archive.rest import with_part
from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, read_json, require_regular, write_bytes, write_text
from dtp_edge.graph.leaves import leaves
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.surgery.compact_graph import CompactGraph, build_graph_module
from dtp_edge.surgery.compaction import Compact, named_tensors

HINT = "The folder was changed or cut short after it was written: copy it again, or prune again."

FORMAT = "dtp_edge.pruned"
VERSION = 2  # 1 had no `weights_sha256`
WEIGHTS, WIDTHS = "model.safetensors", "widths.json"
MAX_JSON_BYTES, MAX_WEIGHT_BYTES = 256_000_000, 16 * 2**30
_BOUNDS = Bounds(values=2_000_000, keys=20_000)
_FAULTS = 20  # that are looked at for the best one to tell

_TEXT = {"type": "string", "maxLength": 1000}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "version", "graph", "tensors", "widths", "kept", "inputs"],
    "properties": {
        "format": {"const": FORMAT},
        "version": {"type": "integer", "minimum": 1},
        "widths": {
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 2,
                "maxItems": 2,
            },
        },
        "kept": {"type": "object", "additionalProperties": {"type": "object"}},
        "branches": {"type": "array", "items": {"type": "object"}},
        "weights_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "inputs": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "required": ["shape", "dtype"],
                "properties": {
                    "shape": {
                        "type": "array",
                        "maxItems": 16,
                        "items": {"type": "integer", "minimum": 0, "maximum": 2**31},
                    },
                    "dtype": {"enum": list(DTYPES)},
                },
            },
        },
        "tensors": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["stored", "parameter"],
                "properties": {
                    "stored": _TEXT,
                    "parameter": {"type": "boolean"},
                    "requires_grad": {"type": "boolean"},
                },
            },
        },
        "graph": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "op", "target", "args", "kwargs"],
                "properties": {
                    "name": _TEXT,
                    "op": {"enum": ["placeholder", "get_attr", "call_function", "output"]},
                    "target": _TEXT,
                    "args": {"type": "array"},
                    "kwargs": {"type": "object"},
                },
            },
        },
        "meta": {"type": "object"},
    },
    "if": {"properties": {"version": {"minimum": 2}}},
    "then": {"required": ["weights_sha256"]},
}


def save_pruned(
    out_dir: str | Path,
    compact: Compact,
    network: PrunableNetwork,
    keep: np.ndarray,
    meta: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write `model.safetensors` and `widths.json` to `out_dir`; return their paths.

    `kept` in the JSON names the surviving indices of every cut dimension of every dense tensor, enough to
    repeat the surgery by hand; a tensor that went with a branch has `{"0": []}` there. `branches`, where the
    network has some, tells of each addition's operand whether it is still there.
    """
    compact.sync()
    out = Path(out_dir)
    module = compact.graph_module
    stored, table = _stored_tensors(module)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "meta": dict(meta or {}),
        "widths": {n: list(w) for n, w in network.widths(np.asarray(keep, dtype=bool)).items()},
        "frozen": [[f.name, f.reason] for f in network.frozen],
        "kept": {n: {str(d): i for d, i in dims.items()} for n, dims in compact.kept.items()},
        **_branches(network, compact),
        "inputs": [
            {"shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")}
            for x in leaves(network.example_inputs)
        ],
        "tensors": table,
        "graph": graph_to_json(module.graph),
    }
    # one entry: safetensors writes several in any order, and the same network must give the same bytes
    weights = save(stored, metadata={"format": f"{FORMAT} {VERSION}"})
    document["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    write_bytes(out / WEIGHTS, weights)
    write_text(out / WIDTHS, json.dumps(document, allow_nan=False))
    return out / WEIGHTS, out / WIDTHS


def _branches(network: PrunableNetwork, compact: Compact) -> dict[str, Any]:
    """Return what to write of branches, nothing for a network that was pruned without them."""
    if not network.branches:
        return {}
    gone = {branch.name for branch in compact.branches}
    rows = [
        {"name": b.name, "addition": b.addition, "operand": b.operand, "kept": b.name not in gone}
        for b in network.branches
    ]
    return {"branches": rows}


def _stored_tensors(module: CompactGraph) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Return the tensors to write, shared ones once, and where each name finds its own."""
    stored: dict[str, torch.Tensor] = {}
    first: dict[int, str] = {}
    table = {}
    for name, tensor in sorted(named_tensors(module).items()):
        home = first.setdefault(id(tensor), name)
        if home == name:
            stored[name] = tensor.detach().cpu().contiguous().clone()
        parameter = isinstance(tensor, nn.Parameter)
        table[name] = {"stored": home, "parameter": parameter, "requires_grad": tensor.requires_grad}
    return stored, table


def load_pruned(
    folder: str | Path,
    *,
    any_weights: bool = False,
    whole: nn.Module | None = None,
    like: nn.Module | None = None,
) -> nn.Module:
    """Load the compact network that a run left in `folder`: a module that runs, trains and exports.

    Needs neither the dense network nor its source. Nothing in the files is executed: the graph may hold
    known ATen operators only. Formats since the first are read. `any_weights` takes a `model.safetensors`
    other than the one that was written: your own further training of this network. Of a run with `part=`
    give the `whole` network, built anew: returned is a copy of it with the compact part in its place and the
    weights that the rest had in the end. With a network `like` the dense one, built anew with any weights,
    returned is a module of its class, for a trainer that wants that.

    Raises `InputError` if a file is missing, damaged or from a newer version.
    """
    folder = Path(folder)
    document = _read_json(folder / WIDTHS)
    require_regular(folder / WEIGHTS, most_bytes=MAX_WEIGHT_BYTES, hint=HINT)
    written = document.get("weights_sha256")
    if written and not any_weights and _sha256(folder / WEIGHTS) != written:
        raise InputError(
            f"is not the file that was written with {WIDTHS}",
            where=str(folder / WEIGHTS),
            hint="Copy both again; for weights that you trained further, load_pruned(..., any_weights=True).",
        )
    tensors = _read_tensors(folder / WEIGHTS, document["tensors"])
    try:
        graph = graph_from_json(document["graph"], set(tensors))
        rehearse(graph, tensors, document["inputs"], where="graph", hint=HINT)
        module = build_graph_module(tensors, graph)
        module.write_code()
    except InputError as error:
        raise InputError(error.what, where=f"{folder / WIDTHS}: {error.where}", hint=HINT) from error
    except (SyntaxError, RecursionError, ValueError, RuntimeError) as error:  # of the graph's code
        raise InputError(f"its graph is not a program: {error}", where=str(folder), hint=HINT) from error
    if like is not None:
        module = in_class_of(like, module, document)
    return module if whole is None else with_part(whole, module, document.get("meta", {}), folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    hint = "Give the folder that a finished run wrote."
    document = read_json(path, most_bytes=MAX_JSON_BYTES, hint=hint, bounds=_BOUNDS)
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            f"has format version {version}; this dtp_edge reads up to {VERSION}",
            where=str(path),
            hint="Update dtp-edge.",
        )
    faults = jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)
    problem = best_match(itertools.islice(faults, _FAULTS))
    if problem is not None:
        place = "/".join(map(str, problem.absolute_path))
        raise InputError(
            f"is not a pruned network: {problem.message[:200]}", where=f"{path}: {place}", hint=hint
        )
    for name in document["tensors"]:
        if (fault := tensor_name_fault(name)) is not None:
            raise InputError(f"the tensor {name[:60]!r} {fault}", where=f"{path}: tensors", hint=hint)
    return document


def _read_tensors(path: Path, table: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            wanted = {entry["stored"] for entry in table.values()}
            raw = {name: file.get_tensor(name) for name in file.keys() if name in wanted}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(f"is not a safetensors file ({error})", where=str(path), hint=HINT) from error
    made: dict[str, torch.Tensor] = {}
    result = {}
    for name, entry in table.items():
        home = entry["stored"]
        if home not in raw:
            raise InputError(f"lacks the tensor {home[:100]!r}", where=str(path), hint=HINT)
        if home not in made:
            made[home] = raw[home]
            if entry["parameter"]:
                trains = entry.get("requires_grad", True) and raw[home].is_floating_point()
                made[home] = nn.Parameter(raw[home], requires_grad=trains)
        result[name] = made[home]
    return result
