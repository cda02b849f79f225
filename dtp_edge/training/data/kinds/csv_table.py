"""A table of numbers: one sample a line, its last column (or label, or target) what is wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset

from dtp_edge.errors import InputError
from dtp_edge.files import read_csv_lines
from dtp_edge.training.data.assemble import assemble, stacked
from dtp_edge.training.data.folders import split_kind
from dtp_edge.training.data.registry import Kind
from dtp_edge.training.data.source import DataSource

_MOST_BYTES = 1 << 28
_WANTED = ("label", "class", "target")
_HINT = "A head, then a line a sample: numbers, and a column label (classes) or target (numbers)."
_MOST_CLASSES = 1000
Lines = list[tuple[int, dict[str, str]]]


def csv_table(path: Path, workers: int) -> DataSource:
    """Open a table. Raises `InputError` with the line of the first cell that is no number."""
    lines = read_csv_lines(path, most_bytes=_MOST_BYTES, hint=_HINT)
    if not lines:
        raise InputError("has no lines behind its head", where=str(path), hint=_HINT)
    columns = list(max((cells for _, cells in lines), key=len))
    if len(set(columns)) < 2 or not all(columns):
        raise InputError("its head does not name two columns or more", where=str(path), hint=_HINT)
    wanted = next((c for c in reversed(columns) if c.lower() in _WANTED), None)
    wanted = wanted or next(c for c in reversed(columns) if c.lower() != "split")
    features = [c for c in columns if c != wanted and c.lower() != "split"]
    if not features:
        raise InputError("has no columns but the one wanted", where=str(path), hint=_HINT)
    x = torch.tensor([[_number(cells, c, line, path) for c in features] for line, cells in lines])
    words = [_cell(cells, wanted, line, path) for line, cells in lines]
    classes = _classes(words, wanted)
    if classes:
        y = torch.tensor([classes.index(word) for word in words])
    else:
        y = torch.tensor([[_number(cells, wanted, line, path)] for line, cells in lines])
    parts = _parts(lines, path)
    mean, std = x[parts["train"]].mean(0), x[parts["train"]].std(0).clamp_min(1e-6)
    x = (x - mean) / std
    sets = {kind: TensorDataset(x[rows], y[rows]) for kind, rows in parts.items()}
    return assemble(
        "csv",
        sets["train"],
        held=sets.get("val") if "test" in sets else None,
        test=sets.get("test", sets.get("val")),
        where=str(path),
        collate=stacked,
        num_classes=len(classes) or None,
        input_shape=(len(features),),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        task="classification" if classes else "regression",
        folders=f"{path}: {len(lines)} lines, {len(features)} numbers each; {wanted} is "
        + (f"one of {len(classes)} classes" if classes else "a number"),
        facts={"classes": classes, "features": features, "target": wanted},
    )


def _cell(cells: dict[str, str], column: str, line: int, path: Path) -> str:
    text = cells.get(column, "").strip()
    if not text:
        raise InputError(
            f"line {line}: {column} is empty", where=str(path), hint="Fill it in, or remove the line."
        )
    return text


def _number(cells: dict[str, str], column: str, line: int, path: Path) -> float:
    text = _cell(cells, column, line, path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e30:
        raise InputError(f"line {line}: {column} is {text[:40]!r}, not a number", where=str(path), hint=_HINT)
    return value


def _classes(words: Sequence[str], column: str) -> list[str]:
    """Return the classes in order: numbers 0, 1, … as they are, words sorted; none where it is a number."""
    known = sorted(set(words))
    whole = [word for word in known if word.isdecimal()]
    if len(whole) == len(known):
        largest = max(map(int, known))
        as_target = column.lower() == "target" or largest >= _MOST_CLASSES or len(known) < 2
        return [] if as_target else [str(i) for i in range(largest + 1)]
    try:
        np.asarray(known, dtype=np.float64)
    except ValueError:
        return known
    return []


def _parts(lines: Lines, path: Path) -> dict[str, list[int]]:
    """Return the rows of each split, by the column `split` where there is one."""
    column = next((c for c in lines[0][1] if c.lower() == "split"), None)
    if column is None:
        return {"train": list(range(len(lines)))}
    found: dict[str, list[int]] = {"train": []}
    for row, (line, cells) in enumerate(lines):
        kind = split_kind(_cell(cells, column, line, path))
        if kind is None:
            what = f"line {line}: {column} is {cells[column][:40]!r}"
            raise InputError(what, where=str(path), hint="Write train, val or test.")
        found.setdefault(kind, []).append(row)
    return found


KIND = Kind(
    "csv",
    "csv:FILE",
    "a table with a head; all columns are numbers but `label` (classes) or `target` (a number), else the "
    "last one; `split` may say train, val or test",
    lambda ask: csv_table(ask.file(), ask.workers),
)
