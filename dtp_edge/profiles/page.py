"""The page of all shipped profiles, written from the profiles themselves."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from dtp_edge.profiles.profile import Profile, read_profile
from dtp_edge.profiles.shipped import list_profiles

_HEAD = """# Device profiles

<!-- written by `python tools/profiles_page.py`; edit the profiles, not this page -->

Every number below comes from the profile files in `hardware_profiles/`. The error is on data that the fit
has not seen; how it was obtained stands with each profile. Status: *measured* (kernels timed on the
device), *fitted* (rates fitted to measured latencies), *indicative* (good for comparing, not for
promising), *analytical* (from a datasheet or a compiler's estimate, no silicon).

| profile | device | runtime | precision | threads | median error | 90 % within | n | status |
|---|---|---|---|---|---|---|---|---|
"""


class _Held(NamedTuple):
    network: str
    predicted_ms: str
    measured_ms: str
    error: float


def profiles_markdown(held_out_csv: Path | None = None) -> str:
    """Return the page: one table, then one section a profile; worst networks from the held-out table."""
    profiles = [read_profile(name) for name in list_profiles()]
    held = _read_held_out(held_out_csv) if held_out_csv is not None and held_out_csv.is_file() else {}
    rows = "\n".join(_row(profile) for profile in profiles)
    sections = "\n".join(_section(profile, held.get(profile.name, [])) for profile in profiles)
    return f"{_HEAD}{rows}\n\n{sections}"


def _row(profile: Profile) -> str:
    error = profile.error
    median, p90 = (
        "unknown" if value is None else f"{100 * value:.1f} %"
        for value in (error.median_relative, error.p90_relative)
    )
    cells = (
        f"[{profile.name}](#{profile.name})",
        profile.device.name,
        profile.runtime.name,
        profile.precision,
        str(profile.threads),
        median,
        p90,
        str(error.n),
        error.status,
    )
    return f"| {' | '.join(cells)} |"


def _section(profile: Profile, held: list[_Held]) -> str:
    source = profile.provenance
    where = f" (<{source.url}>)" if source.url else ""
    what = (profile.description or profile.name).removesuffix(".")
    lines = [
        f"## {profile.name}\n",
        f"{what}. {profile.device.chip}, {profile.device.cores}.\n",
        f"- runtime: {profile.runtime.name}, {profile.runtime.version}",
        f"- data: {source.source}{where}",
        f"- licence: {source.licence}; fitted {source.date}",
        f"- form: {source.how}",
        f"- device facts: {source.facts}",
        f"- error: {profile.error.text()}",
    ]
    if profile.error.notes:
        lines.append(f"- note: {profile.error.notes}")
    if source.recipe:
        lines.append(f"- made by: `{source.recipe}`")
    if held:
        worst = sorted(held, key=lambda row: -abs(row.error))[:3]
        text = ", ".join(f"{row.network} {100 * row.error:+.0f} %" for row in worst)
        lines.append(f"- furthest off when held out: {text}")
        text = "; ".join(f"{row.network} {row.predicted_ms}, {row.measured_ms}" for row in held)
        lines.append(f"- predicted when held out, measured (ms): {text}")
    return "\n".join(lines) + "\n"


def _read_held_out(path: Path) -> dict[str, list[_Held]]:
    held: dict[str, list[_Held]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = _Held(
                line["network"],
                line["held_out_predicted_ms"],
                line["measured_ms"],
                float(line["relative_error"]),
            )
            held[line["profile"]].append(row)
    return held
