"""What do these widths cost on that device: profiles, per-layer cost, measurement."""

from dtp_edge.cost.timing import Timing, time_onnx

__all__ = ["Timing", "time_onnx"]
