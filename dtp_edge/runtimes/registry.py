"""Which runtimes are known, what each is good for, and how to install it: one file each, found by itself.

`on_NAME.py` holds `RUNTIME`, the fields of a `Runtime`, and `load`. A package of one's own adds such a module
by the entry point `dtp_edge.runtimes`, under the name of the runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dtp_edge.files.found import modules_in

ENTRY_POINT = "dtp_edge.runtimes"


@dataclass(frozen=True)
class Runtime:
    """One runtime: `distribution` is its package, `extra` the extra of dtp-edge that installs it ("": none).

    `reads` is the kind of file that it is given: "onnx", or "tflite" for the file of the same stem beside it.
    `file` is the adapter, where it is not `on_NAME.py` beside this. `pins` are what `dtp-edge env NAME`
    installs, `bare_pins` what it installs without the packages that these ask for.
    """

    name: str
    distribution: str
    extra: str
    about: str
    reads: str = "onnx"
    pins: tuple[str, ...] = ()
    bare_pins: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def adapter(self) -> Path:
        return self.file or Path(__file__).with_name(f"on_{self.name}.py")

    @property
    def install(self) -> str:
        return f'pip install "dtp-edge[{self.extra}]"' if self.extra else f"pip install {self.distribution}"


def _found() -> Iterator[Runtime]:
    for name, module in modules_in("dtp_edge.runtimes", "on_").items():
        yield Runtime(name, **module.RUNTIME)
    for point in metadata.entry_points(group=ENTRY_POINT):
        adapter = point.load()
        yield Runtime(point.name, **adapter.RUNTIME, file=Path(adapter.__file__))


# ONNX Runtime is the one that the others are compared with, and stands first.
RUNTIMES = {r.name: r for r in sorted(_found(), key=lambda r: r.name != "onnxruntime")}
