"""The flow graph -> cost -> transport -> export -> report may not turn back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dtp_edge"
ALLOWED = {
    "graph": {"graph", "errors"},
    "cost": {"cost", "graph", "errors"},
    "transport": {"transport", "graph", "cost", "errors", "metrics"},
    "training": {"training", "transport", "graph", "zoo", "errors"},
    "export": {"export", "graph", "errors"},
    "report": {"report", "errors", "metrics"},
    "zoo": {"zoo", "errors"},
}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("dtp_edge.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_one_way(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        strays = imported_rooms(path) - ALLOWED[room]
        assert not strays, f"{path.relative_to(PACKAGE)} imports {sorted(strays)}"
