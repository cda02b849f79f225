"""Every snippet in README, the guides and the examples' notes runs, or says why it is not run.

- ```python blocks of a page run in order, in one namespace and one empty folder.
- ```console blocks hold one command a line (a leading "$ " is allowed; then other lines are output).
  `dtp-edge`, `prune-for-device` and `python FILE` are run; the expected exit code is 0, or what a comment
  `<!-- exit: 3 -->` before the block says.
- ```text, ```json and ```yaml blocks are output or data.
- A comment `<!-- file: NAME -->` before any block writes it as a file.
- `<!-- no-test: REASON -->` before a block leaves it out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```\s*$", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r"<!--\s*(no-test|exit|file|slow):?\s*(.*?)\s*-->")
TEXT = {".md", ".py", ".json", ".svg", ".j2", ".css", ".yml", ".txt"}
ELSEWHERE = {  # commands that are tested another way, by their first words
    "python3 go.py": "CI itself is `go.py test`; the demo has a test of its own",
    "pip install": "it would change the environment that the tests run in",
    "git clone": "it needs a server",
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


def run_command(line: str) -> int:
    """Run one command of a guide in this process and return its exit code."""
    from dtp_edge.cli import cli, main, prune_main

    assert cli is not None
    words = shlex.split(line, comments=True)
    quiet = io.StringIO()
    argv, sys.argv = sys.argv, words
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            if words[0] == "prune-for-device":
                prune_main(words[1:])
            elif words[0] == "dtp-edge":
                main(words[1:])
            elif words[0] in ("python", "python3"):
                sys.argv = words[1:]
                runpy.run_path(words[1], run_name="__main__")
            else:
                raise AssertionError(f"this test does not know how to run: {line}")
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(bool(done.code))
    else:
        code = 0
    finally:
        sys.argv = argv
    if code:
        print(quiet.getvalue())
    return code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace: dict[str, object] = {"__name__": "__snippet__"}
    for block in blocks(page):
        place = f"{page.relative_to(ROOT)}:{block.line}"
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.body + "\n", encoding="utf-8")
            continue
        if "no-test" in block.marks:
            assert len(block.marks["no-test"]) > 10, f"{place}: give a reason"
            continue
        if "slow" in block.marks and not os.environ.get("DTP_EDGE_SLOW"):
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.body, str(page), "exec"), namespace)
        elif block.language == "console":
            for line in commands(block.body):
                if any(line.startswith(words) for words in ELSEWHERE):
                    continue
                code = run_command(line)
                assert code == int(block.marks.get("exit", "0")), f"{place}: exit {code} of: {line}"
        else:
            assert block.language in ("text", "json", "yaml", "toml"), f"{place}: what is this block?"


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
    import subprocess

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
