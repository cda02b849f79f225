"""What a fit sees of a network: one row a kernel, from a traced graph or from a table of layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dtp_edge import files
from dtp_edge.errors import InputError
from dtp_edge.files import LARGEST

HINT = "docs/own-board.md shows the table: network,latency_ms and optionally family."

MAX_TABLE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class KernelRow:
    """One kernel (or `count` equal ones): amounts that its latency is linear in."""

    key: str
    macs: float
    activation_elements: float
    weight_elements: float
    count: int = 1


@dataclass(frozen=True)
class LayerRow:
    """One line of a layer table: `kind` as the table names it, sizes at batch 1."""

    net: str
    layer: str
    type: str
    kind: str
    cin: int
    cout: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    macs: float
    params: float
    in_elements: float
    out_elements: float


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of at most 64 MiB as one mapping a line. Raises `InputError`."""
    return files.read_csv(path, most_bytes=MAX_TABLE_BYTES, hint=HINT)


def plain_number(text: str) -> float:
    """Return a finite number that can be calculated with. Raises `ValueError`."""
    value = float(text)
    if not abs(value) <= LARGEST:
        raise ValueError(f"{text[:60]!r} is not a number below {LARGEST:g}")
    return value


def read_layer_table(path: Path, name_column: str = "net") -> dict[str, list[LayerRow]]:
    """Return the layers of every network in a table with the columns of `data/.../ncnn_layers.csv`."""
    nets: dict[str, list[LayerRow]] = {}
    for number, line in enumerate(read_csv(path), start=2):
        try:
            row = _layer_row(line, name_column)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"line {number} is not a layer: {error}", where=str(path), hint=HINT) from error
        nets.setdefault(row.net, []).append(row)
    return nets


def _layer_row(line: Mapping[str, str], name_column: str) -> LayerRow:
    def number(column: str) -> float:
        return plain_number(line.get(column) or "0")

    return LayerRow(
        net=line[name_column],
        layer=line.get("layer") or line.get("idx") or "",
        type=line["type"],
        kind=line["kind"],
        cin=int(number("cin")),
        cout=int(number("cout")),
        kernel=(int(number("kh")), int(number("kw"))),
        stride=(int(number("sh")), int(number("sw"))),
        groups=int(number("groups")),
        macs=number("macs"),
        params=number("params"),
        in_elements=number("in_elems"),
        out_elements=number("out_elems"),
    )
