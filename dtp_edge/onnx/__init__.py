"""The ONNX file: exported, rewritten, read back, compared; and other people's files read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.onnx.agreement import Agreement as Agreement
    from dtp_edge.onnx.agreement import compare_onnx as compare_onnx
    from dtp_edge.onnx.agreement import evaluate_onnx as evaluate_onnx
    from dtp_edge.onnx.export import export_onnx as export_onnx
    from dtp_edge.onnx.parity import check_onnx as check_onnx

_HOMES = {
    "Agreement": "agreement",
    "check_onnx": "parity",
    "compare_onnx": "agreement",
    "evaluate_onnx": "agreement",
    "export_onnx": "export",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
