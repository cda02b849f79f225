"""The grid: a cell for every device, budget and recipe, and the order in which cells are worth running."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.training import Recipe
from dtp_edge.transport import Budget

__all__ = ["USUAL", "Cell", "Grid", "coarse_to_fine", "in_order"]

USUAL = "usual"  # the recipe of a sweep that names none
_LONGEST_ID = 120


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. `device` is a profile's name, `level` the place of its budget in the grid.

    `tightness` is the least share of the dense network that a limit leaves, `parent` the looser cell that a
    warm start begins with. `length` is the share of the recipe's steps of masks and fine-tune that it takes.
    """

    id: str
    device: str
    level: int
    budget: Budget
    recipe: str = USUAL
    tightness: float = 1.0
    parent: str | None = None
    length: float = 1.0

    @property
    def line(self) -> tuple[str, str]:
        """The budget line that the cell is on: a device and a recipe."""
        return self.device, self.recipe


@dataclass(frozen=True)
class Grid:
    """`devices` are names of profiles, `recipes` names with what each changes of the sweep's recipe."""

    devices: tuple[str, ...]
    budgets: tuple[Budget, ...]
    recipes: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        for what, given in (("device", self.devices), ("budget", self.budgets), ("recipe", self.recipes)):
            found = [str(one) for one in given]
            if not found:
                raise InputError(f"the sweep has no {what}", hint="Name one at least.")
            if twice := next((one for one in found if found.count(one) > 1), None):
                raise InputError(f"the {what} {twice} is given twice", hint="Name each once.")

    def cells(self) -> list[Cell]:
        """Return every cell, device by device, budgets in the order in which they were given."""
        alone, found = len(self.recipes) == 1, []
        for device in self.devices:
            for level, budget in enumerate(self.budgets):
                for recipe in self.recipes:
                    parts = [device, _slug(budget), *([] if alone else [recipe])]
                    found.append(Cell(_spelt("_".join(parts), len(found)), device, level, budget, recipe))
        return found

    def recipe(self, cell: Cell, usual: Recipe | None) -> Recipe | None:
        """Return how a cell trains: the sweep's recipe with the changes of its own; None without data."""
        changes = dict(self.recipes[cell.recipe])
        if usual is None:
            return None
        if (epochs := changes.pop("epochs", None)) is not None:
            parts = Recipe.for_epochs(float(epochs), masks=usual.mask_epochs > 0)
            changes = {"mask_epochs": parts.mask_epochs, "tune_epochs": parts.tune_epochs} | changes
        try:
            found = replace(usual, **changes)
            epochs = {name: getattr(found, name) * cell.length for name in ("mask_epochs", "tune_epochs")}
            return replace(found, **epochs)
        except TypeError as error:
            known = ", ".join(("epochs", *Recipe.__dataclass_fields__))
            raise InputError(f"{error}", where=f"recipe {cell.recipe}", hint=f"Known: {known}.") from error

    def to_json(self) -> dict[str, Any]:
        """Return the grid in JSON values; `budgets` as people wrote them."""
        return {
            "devices": list(self.devices),
            "budgets": [{k: v for k, v in asdict(b).items() if v is not None} for b in self.budgets],
            "recipes": {name: dict(changes) for name, changes in self.recipes.items()},
        }


def coarse_to_fine(count: int) -> list[int]:
    """Return 0 to count - 1 so that any beginning of it covers the range: the ends, the middle, quarters."""
    order = [0, count - 1] if count > 1 else list(range(count))
    gaps = [(0, count - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def in_order(cells: Sequence[Cell], *, warm: bool) -> list[Cell]:
    """Return the cells in the order in which they are run: every line's ends first, then what lies between.

    With `warm` each gets the tightest of its line's looser cells that come before it as its parent.
    """
    lines: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        lines.setdefault(cell.line, []).append(cell)
    ranked: list[tuple[int, int, Cell]] = []
    for number, line in enumerate(lines.values()):
        line.sort(key=lambda cell: -cell.tightness)
        before: list[Cell] = []
        for rank, place in enumerate(coarse_to_fine(len(line))):
            cell = line[place]
            looser = [one for one in before if one.tightness > cell.tightness]
            if warm and looser:
                cell = replace(cell, parent=min(looser, key=lambda one: one.tightness).id)
            before.append(cell)
            ranked.append((rank, number, cell))
    return [cell for _, _, cell in sorted(ranked, key=lambda entry: entry[:2])]


def _slug(budget: Budget) -> str:
    given = {k: v for k, v in asdict(budget).items() if v is not None}
    return "_".join(f"{name}-{_letters(str(value))}" for name, value in given.items())


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.replace("%", "pct")).strip("-")


def _spelt(name: str, number: int) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")
    return plain if len(plain) <= _LONGEST_ID else f"{number:04}-{plain[: _LONGEST_ID - 5]}"
