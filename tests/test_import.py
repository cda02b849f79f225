"""`import dtp_edge` stays light: heavy libraries are imported when first needed."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

HEAVY = ("torch", "onnx", "onnxruntime", "onnxsim", "numpy", "scipy", "sklearn", "click", "jsonschema")


def test_import_is_light() -> None:
    code = f"import sys, dtp_edge; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    import dtp_edge

    for name in dtp_edge.__all__:
        assert getattr(dtp_edge, name) is not None, name


def _there(module: str, name: str) -> bool:
    """Whether a module of ours has the name, or cannot be imported for want of another's package."""
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        return (error.name or "").partition(".")[0] not in ("dtp_edge", "benchmarks")
    return True


def test_what_tests_and_benchmarks_import_is_there() -> None:
    """Found late: a name had moved, and the test that imports it runs in the second environment alone."""
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{one.name}"
        for folder in ("tests", "benchmarks", "tools", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").partition(".")[0] in ("dtp_edge", "benchmarks")
        for one in node.names
        if not _there(node.module or "", one.name)
    ]
    assert not missing
