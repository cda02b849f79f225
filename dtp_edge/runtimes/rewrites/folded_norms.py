"""Batch norms folded into the convolutions before them: see `surgery.norm_folding`."""

from __future__ import annotations

from dtp_edge.surgery.norm_folding import fold_norms

REWRITE = {
    "formats": ("pte", "tflite", "cortexm"),
    "about": "batch norms are folded into the convolutions before them",
    "kinds": ("batch_norm", "_native_batch_norm_legit_no_training"),
}

apply = fold_norms
