"""`import dtp_edge` stays light: heavy libraries are imported when first needed."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "onnxsim", "numpy", "scipy", "sklearn", "click", "jsonschema")


def test_import_is_light() -> None:
    code = f"import sys, dtp_edge; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    import dtp_edge

    for name in dtp_edge.__all__:
        assert getattr(dtp_edge, name) is not None, name
