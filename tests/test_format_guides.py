"""The guides of runtimes are those of their template, one for each runtime of a format."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dtp_edge.runtimes.formats.registry import FORMATS

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("format_guides", ROOT / "tools" / "format_guides.py")
assert SPEC is not None
assert SPEC.loader is not None
GUIDES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(GUIDES)


def test_every_runtime_of_a_format_has_a_guide() -> None:
    assert set(GUIDES.NOTES) == {one.runtime for one in FORMATS.values()}
    assert {p.stem for p in GUIDES.DOCS.glob("*.md")} == set(GUIDES.NOTES)


@pytest.mark.parametrize("name", sorted(GUIDES.NOTES))
def test_a_guide_says_what_the_registries_say(name: str) -> None:
    assert (GUIDES.DOCS / f"{name}.md").read_text(encoding="utf-8") == GUIDES.page(name)
