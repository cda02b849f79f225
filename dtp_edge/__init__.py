"""dtp_edge: prune a trained network to a budget on a named edge device, and prove the result.

Nothing heavy is imported here: every public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dtp_edge.errors import (
    BudgetError,
    CheckError,
    DtpEdgeError,
    InputError,
    Interrupted,
    UnsupportedError,
)

if TYPE_CHECKING:
    from dtp_edge.archive import load_pruned
    from dtp_edge.measure import load_profile
    from dtp_edge.profiles import Profile, list_profiles
    from dtp_edge.run.feasibility import feasibility
    from dtp_edge.run.pipeline import prune_for_device
    from dtp_edge.run.pruner import TransportPruner
    from dtp_edge.run.result import PruneResult
    from dtp_edge.sweeps.driver import sweep
    from dtp_edge.sweeps.sweep_result import SweepResult
    from dtp_edge.transport import Budget, WeightPruner, entropic_mask

__version__ = "0.2.0"

__all__ = [
    "Budget",
    "BudgetError",
    "CheckError",
    "DtpEdgeError",
    "InputError",
    "Interrupted",
    "Profile",
    "PruneResult",
    "SweepResult",
    "TransportPruner",
    "UnsupportedError",
    "WeightPruner",
    "__version__",
    "entropic_mask",
    "feasibility",
    "list_profiles",
    "load_profile",
    "load_pruned",
    "prune_for_device",
    "sweep",
]


def lazy_face(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose names load when they are first used.

    `homes` says in which module of the package each public name is defined.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(homes), sorted(homes)


__getattr__, _, _ = lazy_face(
    __name__,
    {
        "Budget": "transport",
        "Profile": "profiles",
        "PruneResult": "run.result",
        "SweepResult": "sweeps.sweep_result",
        "TransportPruner": "run.pruner",
        "WeightPruner": "transport",
        "entropic_mask": "transport",
        "feasibility": "run.feasibility",
        "list_profiles": "profiles",
        "load_profile": "measure",
        "load_pruned": "archive",
        "prune_for_device": "run.pipeline",
        "sweep": "sweeps.driver",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
