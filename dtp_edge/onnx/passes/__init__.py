"""Rewrites of every file that is written: one pass a file, found by `dtp_edge.onnx.rewriting.find_passes`.

All are exact but for the order of float sums, and each says in its docstring which reader needs it and what
was measured.
"""
