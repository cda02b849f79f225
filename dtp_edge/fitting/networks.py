"""Networks that packages ship, as the kernels that `cost` runs them as: what fits know of a vendor's table.

`networks.csv.gz` beside this file is written by `tools/network_kernels.py`. Equal kernels are one line.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from dtp_edge import files
from dtp_edge.cost.kernels import Lowered
from dtp_edge.cost.work import products
from dtp_edge.graph.layers import LayerGraph

TABLE = Path(__file__).parent / "networks.csv.gz"
_MOST_BYTES = 32 * 1024 * 1024
_SIMPLE = ["relu", "relu6", "hardtanh", "clamp"]
_ALL = [*_SIMPLE, "leaky_relu", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "mish"]
FUSIONS: dict[str, dict[str, Any]] = {
    "npu": {"norm": True, "activations": _ALL, "add": False, "elementwise_activations": True},
    "tensorrt": {"norm": True, "activations": _ALL, "add": True, "elementwise_activations": True},
    "tflite": {"norm": True, "activations": _SIMPLE, "add": False, "elementwise_activations": True},
}


@dataclass(frozen=True)
class PlainKernel:
    """One kernel: channels as the cost rounds them (1 where a side has none), amounts at batch 1."""

    family: str
    op: str
    cin: int
    cout: int
    area: int
    pixels: int
    macs: float
    activation_elements: float
    weight_elements: float


@dataclass(frozen=True)
class NetworkKernel:
    """`count` equal kernels of one network under one of `FUSIONS`."""

    network: str
    fusion: str
    kernel: PlainKernel
    count: int


Networks = Mapping[tuple[str, str], Sequence[NetworkKernel]]


def kernels_of(lowered: Lowered, graph: LayerGraph) -> Iterable[PlainKernel]:
    """Yield every kernel of a lowered graph (dense sizes), and first its inputs, as one of family "input"."""
    values = sum(_elements(graph.tensors[name].shape) for name in graph.inputs)
    yield PlainKernel("input", "input", 1, 1, 1, 1, 0.0, values, 0.0)
    for kernel in lowered.kernels:
        work, sides = 0.0, {"in": 1, "out": 1, "": 1}
        for product in products(kernel, graph):
            value = 1.0
            for dim, side in product:
                value *= dim.size
                sides[side] = dim.size
            work += value
        tensors = [graph.tensors[n] for n in (*kernel.inputs, *kernel.outputs)]
        weights = [graph.tensors[n] for n in kernel.weights]
        area = kernel.attributes.get("kernel_size", (1,))
        out = graph.tensors[kernel.outputs[0]].shape
        yield PlainKernel(
            kernel.family,
            kernel.op,
            sides["in"],
            sides["out"],
            _product(area if isinstance(area, (tuple, list)) else (area,)),
            _product(d.size for d in out[2:]) if len(out) > 3 else _product(d.size for d in out[1:-1]),
            work,
            sum(_elements(t.shape) for t in tensors),
            sum(_elements(t.shape) for t in weights),
        )


def read_networks(path: Path = TABLE) -> dict[tuple[str, str], list[NetworkKernel]]:
    """Return all kernels by (network, fusion). Raises `InputError` for a file that is none of ours."""
    packed = files.read_bytes(path, most_bytes=_MOST_BYTES, hint="Write it with tools/network_kernels.py.")
    lines = gzip.decompress(packed).decode().splitlines()
    found: dict[tuple[str, str], list[NetworkKernel]] = {}
    kinds = [f.type for f in fields(PlainKernel)]
    for line in lines[1:]:
        network, fusion, count, *rest = line.split(",")
        values = [
            v if kind == "str" else int(v) if kind == "int" else float(v)
            for kind, v in zip(kinds, rest, strict=True)
        ]
        kernel = PlainKernel(*values)  # type: ignore[arg-type]
        found.setdefault((network, fusion), []).append(NetworkKernel(network, fusion, kernel, int(count)))
    return found


@lru_cache(maxsize=1)
def shipped_networks() -> Networks:
    """Return the shipped table, read once."""
    return read_networks()


def write_networks(path: Path, rows: Iterable[NetworkKernel]) -> None:
    """Write the table, the same bytes for the same rows."""
    names = [f.name for f in fields(PlainKernel)]
    lines = [",".join(["network", "fusion", "count", *names])]
    for row in sorted(rows, key=lambda r: (r.network, r.fusion)):
        values = [f"{v:.10g}" if isinstance(v, float) else str(v) for v in asdict(row.kernel).values()]
        lines.append(",".join([row.network, row.fusion, str(row.count), *values]))
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write(("\n".join(lines) + "\n").encode())
    files.write_bytes(path, raw.getvalue())


def _product(sizes: Iterable[Any]) -> int:
    value = 1
    for size in sizes:
        value *= int(size)
    return value


def _elements(shape: Sequence[Any]) -> float:
    return float(_product(dim.size for dim in shape)) if shape else 1.0
