"""A name that is retired: until 0.2.0 the guides imported from here what now stands in the rooms below.

Every name goes on working, with a `DeprecationWarning` that says where it is (docs/stability.md).
"""

from __future__ import annotations

import importlib
import warnings

_ROOMS = {
    "archive": ("load_pruned", "save_pruned"),
    "int8": ("Int8Result", "is_quantized", "precision_refusal", "quantize_onnx"),
    "onnx": ("Agreement", "check_onnx", "compare_onnx", "evaluate_onnx", "export_onnx"),
    "proof": ("Check", "check_masked_equals_compact", "require"),
    "runtimes": (
        *("RuntimeRow", "check_runtimes", "list_runtimes"),
        *("VelaEstimate", "export_tflite", "vela_estimate"),
    ),
    "surgery": ("Compact", "Refit", "compact", "put_back", "refit", "relative_error"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = f"dtp_edge.{_ROOM_OF[name]}"
    warnings.warn(f"import {name} from {room}: dtp_edge.export is retired", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(room), name)
