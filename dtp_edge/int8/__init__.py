"""int8 files whose scales every correct runtime reads alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.int8.quantise import Int8Result as Int8Result
    from dtp_edge.int8.quantise import is_quantized as is_quantized
    from dtp_edge.int8.quantise import precision_refusal as precision_refusal
    from dtp_edge.int8.quantise import quantize_onnx as quantize_onnx

_HOMES = {
    "Int8Result": "quantise",
    "is_quantized": "quantise",
    "precision_refusal": "quantise",
    "quantize_onnx": "quantise",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
