"""What any widths cost on a device: profiles, latency, RAM, flash, MACs, parameters; and measurement.

Names load on first use, so that listing profiles imports neither torch nor ONNX Runtime. A new public
name is one line in `_WHERE`.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Profile": "profile",
    "load_profile": "profile",
    "list_profiles": "profile",
    "parse_profile": "profile",
    "save_profile": "profile",
    "profiles_dir": "profile",
    "profile_schema": "schema",
    "NetworkCost": "network_cost",
    "LayerCost": "network_cost",
    "Timing": "timing",
    "time_onnx": "timing",
    "measure_host": "measure",
    "device_rows": "describe",
    "describe_profile": "describe",
    "check_profile": "check",
    "write_kit": "kit",
    "import_results": "kit",
    "host_profile": "host",
    "is_this_machine": "host",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"dtp_edge.cost.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
