"""dtp_edge: prune a trained network to a budget on a named edge device, and prove the result.

Nothing heavy is imported here: every public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
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
    from dtp_edge.cost import Profile, list_profiles, load_profile
    from dtp_edge.export import load_pruned
    from dtp_edge.pipeline import PruneResult, prune_for_device
    from dtp_edge.pruner import TransportPruner
    from dtp_edge.transport import Budget, WeightPruner, entropic_mask

__version__ = "0.1.0"

_HOMES = {
    "Budget": "dtp_edge.transport",
    "Profile": "dtp_edge.cost",
    "PruneResult": "dtp_edge.pipeline",
    "TransportPruner": "dtp_edge.pruner",
    "WeightPruner": "dtp_edge.transport",
    "entropic_mask": "dtp_edge.transport",
    "list_profiles": "dtp_edge.cost",
    "load_profile": "dtp_edge.cost",
    "load_pruned": "dtp_edge.export",
    "prune_for_device": "dtp_edge.pipeline",
}

__all__ = [
    "Budget",
    "BudgetError",
    "CheckError",
    "DtpEdgeError",
    "InputError",
    "Interrupted",
    "Profile",
    "PruneResult",
    "TransportPruner",
    "UnsupportedError",
    "WeightPruner",
    "__version__",
    "entropic_mask",
    "list_profiles",
    "load_profile",
    "load_pruned",
    "prune_for_device",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dtp_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
