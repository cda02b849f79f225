"""Which objectives there are: one file each in this folder, found by itself.

A module that holds `OBJECTIVE`, a subclass of `Objective`, names one. A package of one's own adds such a
class by the entry point `dtp_edge.objectives`, under the objective's name; the user's own is `FILE.py:NAME`.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dtp_edge.errors import InputError, nearest
from dtp_edge.files.found import modules_in
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.training.objectives.base import Objective

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["ENTRY_POINT", "kinds", "objective_of"]

ENTRY_POINT = "dtp_edge.objectives"


@cache
def kinds() -> dict[str, type[Objective]]:
    """Return every objective by its name."""
    found: dict[str, type[Objective]] = {}
    for module in modules_in("dtp_edge.training.objectives").values():
        if (kind := getattr(module, "OBJECTIVE", None)) is not None:
            found[kind.name] = kind
    for point in metadata.entry_points(group=ENTRY_POINT):
        found[point.name] = point.load()
    return found


def objective_of(given: Objective | str | None, data: DataSource) -> Objective:
    """Return the objective that was asked for by name, as `FILE.py:NAME` or itself, else the data's own.

    Raises `InputError` for a name that there is not, and for a callable that returns something else.
    """
    chosen = given if given is not None else data.objective if data.objective is not None else data.task
    if isinstance(chosen, Objective):
        return chosen
    path, colon, attribute = chosen.rpartition(":")
    if colon and path.endswith(".py"):
        made = call_from_file(Path(path), attribute)
        if not isinstance(made, Objective):
            raise InputError(
                f"{attribute}() returned {type(made).__name__}",
                where=chosen,
                hint="Return an object of a subclass of dtp_edge.training.Objective.",
            )
        return made
    if chosen not in kinds():
        near = nearest(chosen, kinds()) or list(kinds())
        raise InputError(
            f"there is no objective '{chosen}'",
            where="objective",
            hint=f"Did you mean {', '.join(near)}? Your own is FILE.py:NAME.",
        )
    return kinds()[chosen].of(data)
