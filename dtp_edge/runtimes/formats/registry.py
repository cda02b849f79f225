"""Which formats are known beside ONNX, who makes and reads each: one file each, found by itself.

`to_NAME.py` holds `FORMAT`, the fields of a `Format`, and `make(job, samples)`. It runs under the interpreter
that has the vendor's exporter, and writes `job["target"]` (and what stands beside it) from the stored network
(`job["pruned"]`) or from ONNX (`job["onnx"]`). A package of one's own adds such a module by the entry point
`dtp_edge.formats`, under the name of the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dtp_edge.errors import InputError, nearest
from dtp_edge.files.found import modules_in

ENTRY_POINT = "dtp_edge.formats"
ONNX = "onnx"  # always written, by this package itself


@dataclass(frozen=True)
class Format:
    """One format: `runtime` reads its files, in whose environment they are made; the first suffix is loaded.

    `made_of` is what the maker reads: "pruned" (weights and graph, as `save_pruned` leaves them) or "onnx".
    """

    name: str
    about: str
    runtime: str
    suffixes: tuple[str, ...]
    made_of: str
    precisions: tuple[str, ...] = ("fp32",)
    file: Path | None = None

    @property
    def maker(self) -> Path:
        return self.file or Path(__file__).with_name(f"to_{self.name}.py")

    def files(self, stem: str, precision: str) -> list[str]:
        """Return the names of its files: `model.pte`, or `model.int8.pte`."""
        return [f"{stem}{'' if precision == 'fp32' else f'.{precision}'}{suffix}" for suffix in self.suffixes]


def _found() -> Iterator[Format]:
    for name, module in modules_in("dtp_edge.runtimes.formats", "to_").items():
        yield Format(name, **module.FORMAT)
    for point in metadata.entry_points(group=ENTRY_POINT):
        maker = point.load()
        yield Format(point.name, **maker.FORMAT, file=Path(maker.__file__))


FORMATS = {one.name: one for one in _found()}


def chosen_formats(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the formats that were asked for beside ONNX, each once, in order.

    Raises InputError for a name that is no format.
    """
    names = text.split(",") if isinstance(text, str) else list(text)
    asked = list(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    for name in asked:
        if name not in FORMATS and name != ONNX:
            close = nearest(name, [*FORMATS, ONNX])
            known = "; ".join(f"{one.name} ({one.about})" for one in FORMATS.values())
            hint = f"Nearest: {', '.join(close)}." if close else f"Known: onnx; {known}."
            raise InputError(f"no format is called {name!r}", where="--format", hint=hint)
    return tuple(name for name in asked if name != ONNX)
