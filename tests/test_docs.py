"""Every snippet in README, the guides and the examples' notes runs, or says why it is not run.

- ```python blocks of a page run in order, in one namespace and one empty folder.
- ```console blocks hold one command a line (a leading "$ " is allowed; then other lines are output).
  `dtp-edge`, `prune-for-device` and `python FILE` are run; the expected exit code is 0, or what a comment
  `<!-- exit: 3 -->` before the block says.
- ```text, ```json and ```yaml blocks are output or data.
- A comment `<!-- file: NAME -->` before any block writes it as a file.
- `<!-- prepare: NAMES -->` before a block makes what it needs, and may make it smaller: see guide_world.py.
- `<!-- needs: VARIABLE -->`: where that is not set, the block must stop by saying what to install.
- Output lines of a console block with "$ " must be printed by its command, up to what a seed changes.
Every command is also parsed as it is printed. What is not run stands in ELSEWHERE, with the test that does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from helpers.guide_world import PREPARATIONS, Preparation

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "formats").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```\s*$", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r"<!--\s*(exit|file|prepare|needs):\s*(.*?)\s*-->")
TEXT = {".md", ".py", ".json", ".svg", ".j2", ".css", ".yml", ".txt"}
# Commands that are not run here, by their first words: why, and the file (with a text in it) that shows more.
ELSEWHERE = {
    "python3 go.py": (
        "go.py must know the word; CI is `go.py test`, and the demo runs as `prune-for-device --demo`",
        ".ci/run",
        "python3 go.py test",
    ),
    "pip install": (
        "it would change this environment: its extras must be pyproject.toml's; a wheel is built and used",
        "tests/test_package.py",
        "def test_the_wheel_finds_its_profiles",
    ),
    "dtp-edge env": (
        "it downloads packages of gigabytes: the runtime must have pinned versions; one of a wheel is made",
        "tests/runtimes/test_environment.py",
        "def test_an_environment_is_made_once_and_found",
    ),
    "prune-for-device demonet --data digits --epochs 1 --device ethos-u55-128-vela-int8": (
        "the exporter is in an environment of its own: the command must parse; a test makes a file there",
        "tests/runtimes/test_formats.py",
        "def test_the_real_exporter_and_runtime",
    ),
    "prune-for-device demonet --data digits --epochs 1 --device stm32h747-cubeai-int8": (
        "the exporter is in an environment of its own: the command must parse; a test makes a file there",
        "tests/runtimes/test_formats.py",
        "def test_the_real_exporter_and_runtime",
    ),
    "prune-for-device resnet8 --device rpi4-ncnn-fp32-1t --macs 50% --format": (
        "the exporter is in an environment of its own: the command must parse; a stand-in makes a file",
        "tests/run/test_further_formats.py",
        "def test_a_run_hands_over_the_format_with_its_placement",
    ),
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    body: str
    marks: dict[str, str]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text[: found.start()].count("\n") + 1
        marks = {}
        for before in reversed(text[: found.start()].splitlines()):
            if not before.strip():
                continue
            mark = MARK.search(before)
            if not mark:
                break
            marks[mark[1]] = mark[2]
        indent = len(found["indent"])
        body = "\n".join(row[indent:] for row in found["body"].splitlines())
        yield Block(page, line, found["language"], body, marks)


def commands(body: str) -> list[str]:
    """Return the commands of a console block, continuation lines joined, comments dropped."""
    lines = body.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def run_command(line: str, said: io.StringIO) -> int:
    """Run one command of a guide and return its exit code: our own in this process, others by a shell."""
    from dtp_edge.cli import main, prune_main

    words = shlex.split(line, comments=True)
    if words[0] == "export":
        return known_variables(words[1:])
    argv, sys.argv = sys.argv, words
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if words[0] == "prune-for-device":
                prune_main(words[1:])
            elif words[0] == "dtp-edge":
                main(words[1:])
            elif words[0] in ("python", "python3") and words[1] != "-m":
                sys.argv = words[1:]
                runpy.run_path(words[1], run_name="__main__")
            else:
                done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=300)
                said.write(done.stdout + done.stderr)
                return done.returncode
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    finally:
        sys.argv = argv
    return 0


def known_variables(settings: list[str]) -> int:
    """Return 0 if every variable of an `export` is one that the code reads."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "dtp_edge").rglob("*.py"))
    names = [setting.partition("=")[0] for setting in settings]
    return int(not all(name in code or name.startswith("DTP_EDGE_PYTHON_") for name in names))


def parse(line: str) -> None:
    """Raise click's error if one of our commands in `line` has an option or a value that is not there."""
    from dtp_edge.cli import cli

    words = shlex.split(line.replace("$(which prune-for-device)", "prune-for-device"), comments=True)
    command: click.Command = cli
    if "prune-for-device" in words:
        words = ["prune", *words[words.index("prune-for-device") + 1 :]]
    elif words[0] == "dtp-edge":
        words = words[1:]
    else:
        return
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    command.make_context(line.split()[0], words)


def requirements_are_ours(words: list[str]) -> None:
    """Assert that a `pip install` names only our extras, or packages that an extra names."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = [*project["dependencies"], *(one for names in extras.values() for one in names)]
    known = {Requirement(one).name for one in every}
    for word in words:
        if word.startswith((".", "dtp-edge")):
            wanted = Requirement("dtp-edge" + word[1:] if word.startswith(".") else word)
            assert wanted.extras <= set(extras), word
        else:
            assert Requirement(word).name in known, word


def elsewhere(line: str) -> bool:
    """Return whether a command is not run here, having checked what can be."""
    first = next((words for words in ELSEWHERE if line.startswith(words)), None)
    if first is None:
        return False
    words = shlex.split(line, comments=True)
    if first == "python3 go.py":
        spec = importlib.util.spec_from_file_location("go", ROOT / "go.py")
        assert spec is not None
        assert spec.loader is not None
        go = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(go)
        assert words[2] in go.EXTRAS, line
    elif first == "dtp-edge env":
        from dtp_edge.runtimes.environment import makeable

        assert words[2] in makeable(), line
    elif first.startswith("prune-for-device"):
        parse(line)
    else:
        requirements_are_ours(words[2:])
    return True


# A difference as small as rounding, and the last digit of a share: the guides' checkpoint is not the test's.
CHANGES = re.compile(r"\d(?:\.\d)?e-\d\d|\b0\.(?:599|600)\b")


def assert_printed(block: Block, said: dict[str, str]) -> None:
    """Assert that the output lines of a transcript were printed by the command above them."""
    command = ""
    for line in block.body.splitlines():
        if line.startswith("$ "):
            command = line[2:].strip()
        elif command in said and line.strip():
            lines = [" ".join(CHANGES.sub("#", one).split()) for one in said[command].splitlines()]
            wanted = " ".join(CHANGES.sub("#", line).split())
            assert wanted in lines, f"{command} does not print {line!r} but\n{said[command]}"


def run_console(block: Block, place: str, replace: dict[str, str]) -> None:
    said = {}
    for line in commands(block.body):
        if elsewhere(line):
            continue
        parse(line)
        small = line
        for text, other in replace.items():
            small = small.replace(text, other)
        heard = io.StringIO()
        code = run_command(small, heard)
        assert code == int(block.marks.get("exit", "0")), (
            f"{place}: exit {code} of: {line}\n{heard.getvalue()}"
        )
        said[line] = heard.getvalue()
    assert_printed(block, said)


def run_python(block: Block, names: dict[str, object]) -> None:
    from dtp_edge.errors import UnsupportedError

    code = compile("\n" * block.line + block.body, str(block.page), "exec")
    if block.marks.get("needs", "PATH") in os.environ:
        exec(code, names)
        return
    with pytest.raises(UnsupportedError, match=r"pip install|dtp-edge env"):
        exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {"__name__": "__snippet__"}
    for block in blocks(page):
        place = f"{page.relative_to(ROOT)}:{block.line}"
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.body + "\n", encoding="utf-8")
            continue
        if block.language in ("text", "json", "yaml", "toml"):
            continue
        assert block.language in ("python", "console"), f"{place}: what is this block?"
        wanted: list[Preparation] = [PREPARATIONS[name] for name in block.marks.get("prepare", "").split()]
        replace = {text: other for one in wanted for text, other in one.replace.items()}
        with monkeypatch.context() as patch, contextlib.ExitStack() as after:
            for one in wanted:
                one.make(tmp_path, patch, names)
                after.callback(one.undo or (lambda: None))
            if block.language == "python":
                run_python(block, names)
            else:
                run_console(block, place, replace)


def test_what_is_not_run_here_is_shown_elsewhere() -> None:
    every = [
        line for page in PAGES for b in blocks(page) if b.language == "console" for line in commands(b.body)
    ]
    for words, (reason, file, text) in ELSEWHERE.items():
        assert any(line.startswith(words) for line in every), f"no guide says {words}"
        assert len(reason) > 20
        assert text in (ROOT / file).read_text(encoding="utf-8"), words


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"]) | {"runtimes-NAME"}
    for path in (*PAGES, *(ROOT / "dtp_edge").rglob("*.py")):
        for extras in re.findall(r"dtp-edge\[([\w,-]+)\]", path.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= known, f"{path.name}: {extras}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|opt|tmp|Users)/")


def test_nothing_that_is_shipped_says_where_it_was_written() -> None:
    assert MACHINE.search("see /" + "opt/x/bin")
    found = []
    for part in ("README.md", "docs", "examples", "dtp_edge", "hardware_profiles", "mkdocs.yml"):
        path = ROOT / part
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in TEXT]
        assert files, part
        found += [str(p.relative_to(ROOT)) for p in files if MACHINE.search(p.read_text(encoding="utf-8"))]
    assert not found


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the docs extra installs mkdocs-material")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("prune_for_device", "TransportPruner", "Budget", "entropic_mask", "load_pruned"):
        assert name in page
