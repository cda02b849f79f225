"""What several runs have in common, trained and scored once: the dense base and the dense control.

Each is a folder of its own, named by all that it depends on (weights, data, seed, and the part of the recipe
that it reads), so that runs for other budgets, devices or masks find it. A phase is a pure function of that:
a run that is given it ends, bit for bit, as one that trains it again on the same kind of machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtp_edge.files import read_json, write_text
from dtp_edge.training.checkpoint import Store
from dtp_edge.training.recipe import Recipe

__all__ = ["PHASES", "Shared"]

PHASES = ("base", "control")
_SCORES = "scores.json"
_HINT = "Remove the folder of the sweep's shared phases, and they are trained again."
_OF_MASKS = ("mask_learning_rate", "score_learning_rate", "recalibrate_batches", "refit_images")
_AFTER_BASE = (*_OF_MASKS, "mask_epochs", "tune_epochs", "tune_learning_rate", "distill", "temperature")


@dataclass(frozen=True)
class Shared:
    """The shared phases below `folder` for one recipe and one set of weights; see `of`.

    `stores` has the checkpoint folder of each. Who may not `write` reads what is there, and trains again
    what is not.
    """

    folder: Path
    stores: Mapping[str, Store] = field(default_factory=dict)
    write: bool = False

    @classmethod
    def of(cls, folder: Path, identity: Mapping[str, Any], recipe: Recipe, *, write: bool) -> Shared:
        """Open the phases of a recipe; `identity` names weights and data in JSON values."""
        stores = {}
        for phase in PHASES:
            run = {"phase": phase, **identity, "recipe": _read_by(phase, recipe)}
            name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
            stores[phase] = Store(folder / f"{phase}-{name}", run, resume=True, write=write)
        return cls(folder, stores, write)

    def scores(self, phase: str) -> tuple[float, float] | None:
        """Return the headline on the test set and the hold-out; None where nobody scored it so far."""
        store = self.stores.get(phase)
        path = None if store is None else store.folder / _SCORES
        if path is None or not path.is_file():
            return None
        found = read_json(path, most_bytes=10_000, hint=_HINT)
        return float(found["test"]), float(found["holdout"])

    def interval(self, phase: str) -> tuple[float, float] | None:
        """Return the 95 % interval of what `scores` has of the test set, if there is one."""
        path = self.stores[phase].folder / _SCORES
        ends = read_json(path, most_bytes=10_000, hint=_HINT).get("interval")
        return None if ends is None else (float(ends[0]), float(ends[1]))

    def note(
        self, phase: str, test: float, holdout: float, interval: tuple[float, float] | None = None
    ) -> None:
        """Write the scores of a phase that is done."""
        text = json.dumps({"test": test, "holdout": holdout, "interval": interval})
        write_text(self.stores[phase].folder / _SCORES, text)


def _read_by(phase: str, recipe: Recipe) -> dict[str, Any]:
    """Return the part of a recipe that a dense phase depends on."""
    given = recipe.to_json()
    if phase == "base":
        return {key: value for key, value in given.items() if key not in _AFTER_BASE}
    whole = {key: value for key, value in given.items() if key not in _OF_MASKS}
    return whole | {"mask_epochs": None, "tune_epochs": recipe.mask_epochs + recipe.tune_epochs}
