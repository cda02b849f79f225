"""Which data sets can be named: one file each in `kinds`, found by itself.

A module that holds `KIND`, a `Kind`, names one. A package of one's own adds one by the entry point
`dtp_edge.data`, under the kind's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dtp_edge.errors import InputError, nearest
from dtp_edge.files.found import modules_in

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["ENTRY_POINT", "Ask", "Kind", "existing", "is_sized", "kinds", "table"]

ENTRY_POINT = "dtp_edge.data"


@dataclass(frozen=True)
class Ask:
    """What the user wrote, `rest` behind the colon; `workers` processes read.

    `image_size` is the side of the square that pictures are brought to; None: the kind's own.
    """

    spec: str
    rest: str
    image_size: int | None = None
    workers: int = 2

    def folder(self) -> Path:
        """Return the folder behind the colon. Raises `InputError` where it is missing or empty."""
        return existing(self.rest, self.spec)

    def file(self) -> Path:
        """Return the file behind the colon; whoever opens it checks it. Raises `InputError`."""
        if not self.rest:
            raise InputError(
                "the file is missing", where=self.spec, hint=f"Write {self.spec.rstrip(':')}:FILE."
            )
        return Path(self.rest).expanduser()

    def options(self, defaults: Mapping[str, float]) -> tuple[Ask, dict[str, float]]:
        """Return this without the `,NAME=NUMBER` at its end, and these numbers. Raises `InputError`."""
        found, rest = dict(defaults), self.rest
        while (cut := rest.rpartition(","))[1] and "=" in cut[2]:
            name, _, value = cut[2].partition("=")
            if name not in defaults:
                near = nearest(name, defaults) or list(defaults)
                raise InputError(
                    f"there is no option '{name}'", where=self.spec, hint=f"There is {', '.join(near)}."
                )
            try:
                found[name] = float(value)
            except ValueError as error:
                raise InputError(
                    f"{name} is {value!r}, not a number",
                    where=self.spec,
                    hint=f"As in {name}={defaults[name]:g}.",
                ) from error
            if not 0 < found[name] < 1e9:
                raise InputError(f"{name} is {value}", where=self.spec, hint="Give a number above 0.")
            rest = cut[0]
        return Ask(self.spec, rest, self.image_size, self.workers), found


@dataclass(frozen=True)
class Kind:
    """One kind of data set: `form` is how it is written, `about` what it reads, in a sentence.

    `extra` is the extra of dtp-edge that brings its reader ("": none). `sized` says that its pictures come in
    any size, so that the network's decides.
    """

    name: str
    form: str
    about: str
    open: Callable[[Ask], DataSource]
    extra: str = ""
    sized: bool = False


@cache
def kinds() -> dict[str, Kind]:
    """Return every kind by its name."""
    found: dict[str, Kind] = {}
    for module in modules_in("dtp_edge.training.data.kinds").values():
        if (kind := getattr(module, "KIND", None)) is not None:
            found[kind.name] = kind
    for point in metadata.entry_points(group=ENTRY_POINT):
        found[point.name] = point.load()
    return found


def is_sized(spec: str) -> bool:
    """Return whether a data set's pictures come in any size, so that the network's decides."""
    kind = kinds().get(spec.partition(":")[0])
    return kind is not None and kind.sized


def table() -> str:
    """Return the table of docs/data.md: all kinds, in Markdown."""
    lines = ["| `--data` | what it reads | needs |", "|---|---|---|"]
    for kind in kinds().values():
        needs = f"`dtp-edge[{kind.extra}]`" if kind.extra else ""
        lines.append(f"| `{kind.form}` | {kind.about} | {needs} |")
    return "\n".join(lines) + "\n"


def existing(rest: str, spec: str) -> Path:
    """Return a folder that the user named. Raises `InputError` where it is missing or empty."""
    if not rest:
        raise InputError("the folder is missing", where=spec, hint=f"Write {spec.rstrip(':')}:DIR.")
    folder = Path(rest).expanduser()
    if not folder.exists():
        raise InputError("there is no such folder", where=rest, hint="Check the path after the colon.")
    if folder.is_dir() and not any(folder.iterdir()):
        raise InputError(
            "the folder is empty", where=rest, hint="Put the data there, or name another folder."
        )
    return folder
