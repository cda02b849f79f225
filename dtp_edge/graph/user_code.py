"""Code of the user's own: the one place where `file.py:callable` is imported and called."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from dtp_edge.errors import DtpEdgeError, InputError, nearest, require_file


def call_from_file(path: Path, attribute: str) -> Any:
    """Import the user's own `path` and call `attribute()`; what goes wrong there is an `InputError`."""
    require_file(path, "Check the path before the colon.")
    function = getattr(_import_file(path), attribute, None)
    if not callable(function):
        raise InputError(
            f"the file has no function '{attribute}'", where=str(path), hint=_functions(path, attribute)
        )
    try:
        return function()
    except DtpEdgeError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{attribute}() failed: {type(error).__name__}: {error}",
            where=_line(path, error),
            hint=f"It is called without arguments: python -c 'import {path.stem}; {path.stem}.{attribute}()'",
        ) from error


def _import_file(path: Path) -> ModuleType:
    name = f"dtp_edge_user_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise InputError("the file cannot be imported as Python", where=str(path), hint="Is it a .py file?")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickling of workers look the module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"importing it failed: {type(error).__name__}: {error}",
            where=_line(path, error),
            hint=f"It must run by itself: python {path}",
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _line(path: Path, error: BaseException) -> str:
    """Return `path:line` of the user's own line that an error came from, `path` where there is none."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).name == path.name:
        return f"{path}:{error.lineno}"
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == path.name
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _functions(path: Path, attribute: str) -> str:
    """Say which functions the file does have, the nearest first."""
    found = [
        n.name for n in ast.parse(path.read_bytes()).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))
    ]
    if not found:
        return "Define it there; it returns the network, or (network, example input)."
    return f"It has {', '.join((nearest(attribute, found) or found)[:4])}."
