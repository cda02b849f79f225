"""Write docs/profiles.md from the shipped profiles: `python tools/profiles_page.py`."""

from __future__ import annotations

from pathlib import Path

from dtp_edge.profiles.page import profiles_markdown

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    page = ROOT / "docs" / "profiles.md"
    held_out = ROOT / "benchmarks" / "results" / "profile_errors.csv"
    page.write_text(profiles_markdown(held_out), encoding="utf-8")
    print(f"wrote {page.relative_to(ROOT)}")
