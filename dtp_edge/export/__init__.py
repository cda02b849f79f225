"""The compact network, as torch and as ONNX, and the proof that it is right."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtp_edge.export.agreement import Agreement, compare_onnx, evaluate_onnx
    from dtp_edge.export.archive import load_pruned, save_pruned
    from dtp_edge.export.equality import check_masked_equals_compact
    from dtp_edge.export.int8 import Int8Result, is_quantized, precision_refusal, quantize_onnx
    from dtp_edge.export.least_squares import Refit, refit
    from dtp_edge.export.parity import Check, check_onnx, relative_error, require
    from dtp_edge.export.runtimes import RuntimeRow, check_runtimes, list_runtimes
    from dtp_edge.export.surgery import Compact, compact, put_back
    from dtp_edge.export.tflite import VelaEstimate, export_tflite, vela_estimate
    from dtp_edge.export.to_onnx import export_onnx

_HOMES = {
    "agreement": ("Agreement", "compare_onnx", "evaluate_onnx"),
    "archive": ("load_pruned", "save_pruned"),
    "equality": ("check_masked_equals_compact",),
    "int8": ("Int8Result", "is_quantized", "precision_refusal", "quantize_onnx"),
    "least_squares": ("Refit", "refit"),
    "parity": ("Check", "check_onnx", "relative_error", "require"),
    "runtimes": ("RuntimeRow", "check_runtimes", "list_runtimes"),
    "surgery": ("Compact", "compact", "put_back"),
    "tflite": ("VelaEstimate", "export_tflite", "vela_estimate"),
    "to_onnx": ("export_onnx",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agreement",
    "Check",
    "Compact",
    "Int8Result",
    "Refit",
    "RuntimeRow",
    "VelaEstimate",
    "check_masked_equals_compact",
    "check_onnx",
    "check_runtimes",
    "compact",
    "compare_onnx",
    "evaluate_onnx",
    "export_onnx",
    "export_tflite",
    "is_quantized",
    "list_runtimes",
    "load_pruned",
    "precision_refusal",
    "put_back",
    "quantize_onnx",
    "refit",
    "relative_error",
    "require",
    "save_pruned",
    "vela_estimate",
]


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"dtp_edge.export.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dtp_edge.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
