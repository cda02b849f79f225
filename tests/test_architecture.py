"""The rooms of the house: one direction of flow, no circles, nothing loose on the top floor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dtp_edge"
LOOSE = {"__init__.py", "errors.py", "metrics.py"}
BASE = {"errors", "metrics", "files"}
_NETWORK = {"ops", "graph"}
_PROVED = _NETWORK | {"surgery", "proof"}
_FILES = _PROVED | {"onnx", "int8", "archive", "runtimes"}
_DEVICES = {"profiles", "cost", "fitting", "measure"}
ALLOWED: dict[str, set[str]] = {  # each room: the rooms that it may know besides errors, metrics and files
    "files": set(),
    "ops": set(),
    "remote": set(),
    "graph": {"ops"},
    "profiles": set(),
    "cost": _NETWORK | {"profiles"},
    "fitting": _NETWORK | {"profiles", "cost"},
    "measure": _NETWORK | {"profiles", "cost", "fitting", "remote"},
    "transport": _NETWORK | {"profiles", "cost"},
    "surgery": _NETWORK,
    "proof": _NETWORK | {"surgery"},
    "onnx": _PROVED,
    "int8": _PROVED | {"onnx"},
    "archive": _PROVED,
    "runtimes": _PROVED | {"onnx", "archive", "remote"},
    "report": set(),
    "training": _NETWORK | {"transport"},
    "run": _FILES | _DEVICES | {"remote", "transport", "training", "report"},
    "sweeps": _FILES | _DEVICES | {"remote", "transport", "training", "report", "run"},
    "zoo": _NETWORK | {"onnx"},
    "export": set(),  # a retired name, which says where each of its names is now
    "cli": _FILES | _DEVICES | {"remote", "transport", "training", "report", "run", "sweeps", "zoo"},
}
MODULES = {
    ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}


def imports(path: Path) -> Iterator[str]:
    """Yield the package's own modules that a file imports, inside functions too, for typing alone not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in MODULES:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in names)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


GRAPH = {m: {x for x in imports(p) if x != m} for m, p in MODULES.items() if p.name != "__init__.py"}


def test_nothing_is_loose_and_every_room_is_known() -> None:
    assert {p.name for p in PACKAGE.glob("*.py")} == LOOSE
    rooms = {p.parent.relative_to(PACKAGE).parts[0] for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE}
    assert rooms <= set(ALLOWED)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_arrows_point_down(name: str) -> None:
    allowed = ALLOWED[name] | BASE | {name, ""}
    for module, path in MODULES.items():
        if room(module) == name:
            strays = {x for x in imports(path) if room(x) not in allowed}
            assert not strays, f"{module} imports {sorted(strays)}"


def test_the_rooms_themselves_form_no_circle() -> None:
    def below(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, " -> ".join((*seen, name))
        for other in ALLOWED[name]:
            below(other, (*seen, name))

    for name in ALLOWED:
        below(name)


def test_the_guide_lists_the_rooms_from_the_ground_up() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.split("## Rooms")[1].split("\n## ")[0].splitlines()
    listed = [
        name.strip(" `") for row in rows if row.startswith("| `") for name in row.split("|")[1].split(",")
    ]
    assert sorted(listed) == sorted(ALLOWED)
    for name, below in ALLOWED.items():
        assert below <= set(listed[: listed.index(name)]), f"{name} stands above what it knows"


def test_no_modules_form_a_circle() -> None:
    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(GRAPH.get(start, ()))
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += GRAPH.get(module, ())
        return seen

    circles = sorted(module for module in GRAPH if module in reached(module))
    assert not circles, f"each of these imports itself by way of others: {circles}"


def test_files_are_rooms_and_not_halls() -> None:
    lines = {m: p.read_text(encoding="utf-8").count("\n") for m, p in MODULES.items()}
    assert not {m: n for m, n in lines.items() if n > 300}


DECIDES = (
    "run",
    "sweeps",
    "report",
    "cli",
    "transport",
    "cost",
    "proof",
)  # rooms without asserts and parsed prose
PROSE = {"reason", "detail", "text", "message", "what", "hint", "source"}


def nodes_of(rooms: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    for module, path in MODULES.items():
        if room(module) in rooms:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield module, node


def test_asserts_are_no_control_flow() -> None:
    """`python -O` takes them away."""
    assert not [f"{m}:{node.lineno}" for m, node in nodes_of(DECIDES) if isinstance(node, ast.Assert)]


def test_nobody_reads_prose_to_decide() -> None:
    """What is decided on is a value beside the words."""

    def named(node: ast.expr) -> str:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return str(node.slice.value)
        return getattr(node, "attr", "")

    found = [
        f"{module}:{node.lineno}"
        for module, node in nodes_of(DECIDES)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("startswith", "endswith", "find", "index")
        and named(node.func.value) in PROSE
    ]
    assert not found


def test_no_error_of_the_language_is_caught_as_logic() -> None:
    caught = [
        f"{module}:{node.lineno}"
        for module, node in nodes_of(("run", "sweeps", "report", "cli", "transport", "cost"))
        if isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and {"AttributeError", "AssertionError"}
        & {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
    ]
    assert not caught


SAME_JOB = {"registry.py", "schema.py", "page.py"}  # known by name; the shape of a file; an HTML page
# Two jobs under one name, to be told apart: none may join them.
STILL_SHARED = {
    "layout.py": {"cost", "training"},
    "resolve.py": {"cost", "zoo"},
}


def test_files_share_a_name_only_for_the_same_job() -> None:
    """Files of the command line have the names of commands, files of operators those of families."""
    homes: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        families = "ops" in path.parts or "rules" in path.parts
        if path.name != "__init__.py" and room(module) not in ("", "cli") and not families:
            homes.setdefault(path.name, set()).add(room(module))
    shared = {name: rooms for name, rooms in homes.items() if len(rooms) > 1 and name not in SAME_JOB}
    assert {name: rooms for name, rooms in shared.items() if rooms != STILL_SHARED.get(name)} == {}


def test_every_word_of_the_glossary_is_explained_once() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Words")[1]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    words = [word.split(" (")[0].strip() for row in rows for word in row.split(",")]
    assert len(words) == len(set(words))
    assert {"atom", "softness", "task", "cut", "options", "feasibility"} <= set(words)


def test_hardness_is_no_word_of_ours() -> None:
    readers_of_old_files = {"dtp_edge.report.upgrade", "dtp_edge.training.logs", "dtp_edge.run.facts_curves"}
    found = {m for m, p in MODULES.items() if "hardness" in p.read_text(encoding="utf-8").lower()}
    assert found <= readers_of_old_files
