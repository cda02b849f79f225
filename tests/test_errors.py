"""Every error that is raised on purpose says what to do next."""

from __future__ import annotations

import ast
from pathlib import Path

import dtp_edge.errors

PACKAGE = Path(dtp_edge.errors.__file__).parent
OURS = {
    name
    for name, value in vars(dtp_edge.errors).items()
    if isinstance(value, type) and issubclass(value, dtp_edge.errors.DtpEdgeError)
}


def without_hint(source: str) -> list[int]:
    """Return the lines on which one of our errors is made with no hint, or with an empty one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in OURS:
            continue
        hint = next((k.value for k in node.keywords if k.arg == "hint"), None)
        empty = isinstance(hint, ast.Constant) and not hint.value
        spread = any(k.arg is None for k in node.keywords)
        if (hint is None and not spread) or empty:
            found.append(node.lineno)
    return found


def test_the_search_finds_an_error_without_a_hint() -> None:
    assert without_hint('raise InputError("no")') == [1]
    assert without_hint('raise errors.CheckError("no", where="x", hint=None)') == [1]
    assert without_hint('raise InputError("no", hint="Do this.")\nraise ValueError("x")') == []


def test_every_error_says_what_next() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := without_hint(path.read_text(encoding="utf-8")))
    }
    assert not found
