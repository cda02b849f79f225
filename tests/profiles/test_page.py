"""docs/profiles.md is what the shipped profiles say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles
from dtp_edge.profiles.page import profiles_markdown

ROOT = Path(__file__).resolve().parents[2]


def test_every_profile_has_its_row_and_section():
    page = profiles_markdown()
    for name in list_profiles():
        profile = load_profile(name)
        assert f"\n## {name}\n" in page
        assert profile.error.text() in page
        assert profile.provenance.licence in page


def test_the_committed_page_is_up_to_date():
    page = ROOT / "docs" / "profiles.md"
    if not page.is_file():
        pytest.skip("the docs are not beside the tests")
    fresh = profiles_markdown(ROOT / "benchmarks" / "results" / "profile_errors.csv")
    assert page.read_text(encoding="utf-8") == fresh, "run `python tools/profiles_page.py`"
