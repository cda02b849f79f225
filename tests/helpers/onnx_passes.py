"""The passes of every file that is written, run on a model of a test."""

from __future__ import annotations

import onnx

from dtp_edge.onnx.rewriting import Rewrite, find_passes, run_passes


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what all passes make of a copy; each asks for what it requires and ensures on the way."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return run_passes(copy, [kind() for kind in find_passes("dtp_edge.onnx.passes", Rewrite)])
