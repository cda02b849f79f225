"""Rewrites of the quantiser's file: one pass a file, found by `dtp_edge.onnx.rewriting.find_passes`."""
