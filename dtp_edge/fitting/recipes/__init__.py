"""Shipped profiles as recipes: which data, which form, which settings. One command regenerates one profile.

Every module of this folder that has `KINDS` is found by itself (see `kind.py`); `recipes.json` names profiles
and device facts. `build` fits one from a data folder and returns the finished document; `python
tools/fit_profiles.py DATA` writes all of them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.fitting.rates import HeldOut
from dtp_edge.fitting.recipes.board_power import power_of
from dtp_edge.fitting.recipes.kind import Parts, all_recipes, kinds

_KEYS = ("description", "device", "runtime", "precision", "threads", "limits", "memory_bytes_per_second")


def recipes() -> dict[str, dict[str, Any]]:
    """Return all recipes by profile name."""
    return copy.deepcopy(all_recipes())


def build(name: str, data: Path, date: str) -> dict[str, Any]:
    """Fit one shipped profile from the data folder; return its document (schema-valid).

    Raises `InputError` for an unknown recipe or missing data.
    """
    return document(name, parts(name, data), date)


def held_out(name: str, data: Path) -> HeldOut:
    """Return the held-out predictions behind a profile's error, network by network."""
    return parts(name, data).held


def parts(name: str, data: Path) -> Parts:
    """Fit one profile; return its kernels and held-out predictions. Raises `InputError`."""
    known = all_recipes()
    if name not in known:
        close = ", ".join(nearest(name, known)) or ", ".join(sorted(known))
        raise InputError(f"no recipe is called {name!r}", hint=f"Nearest: {close}.")
    recipe = known[name]
    made = kinds()[recipe["kind"]].build(recipe, data)
    if "power" not in recipe:
        return made
    return made._replace(more={**made.more, "power": power_of(data, recipe["power"])})


def document(name: str, made: Parts, date: str) -> dict[str, Any]:
    """Return the profile of what a recipe made: device facts, provenance and error around its kernels."""
    recipe = all_recipes()[name]
    kind = kinds()[recipe["kind"]]
    provenance = {**recipe["provenance"], "date": date, "how": made.how}
    provenance["recipe"] = f"dtp-edge profile fit --recipe {name} --data DATA --date {date} --out FILE"
    more = dict(made.more)
    return {
        "schema_version": 1,
        "name": name,
        **{key: recipe[key] for key in _KEYS},
        "kernels": made.kernels,
        **{key: more[key] for key in more if key not in ("graph_overhead_ms", "power")},
        "fusion": dict(kind.fusion),
        "memory": {"in_place": True, **kind.memory},
        **{key: more[key] for key in ("power",) if key in more},
        "graph_overhead_ms": more.get("graph_overhead_ms", 0.0),
        "provenance": provenance,
        "error": _error(recipe, made.held, kind.how),
    }


def _error(recipe: dict[str, Any], held: HeldOut, how: str) -> dict[str, Any]:
    error: dict[str, Any] = {
        "status": recipe.get("status", "fitted"),
        "median_relative": round(held.median(), 4),
        "p90_relative": round(held.p90(), 4),
        "n": len(held.names),
        "how": how,
    }
    notes = [recipe["notes"]] if "notes" in recipe else []
    asked = recipe.get("asked_relative")
    if asked is not None and held.median() > asked:
        notes.insert(0, f"missed: asked <= {100 * asked:.0f} %, {recipe['missed_why']}")
        if recipe.get("marked"):
            error["status"] = "indicative"
    return error | {"notes": "; ".join(notes)} if notes else error
