"""The sections of the page: one template each, found by itself, in the order of the places that they name.

The first line of a template is `{# PLACE | Title #}`, or `{# PLACE | Title | FIELD #}` where the section
is shown only if the report has something in that field. A package of one's own adds a section by the entry
point `dtp_edge.report_sections`, whose value is the text of such a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from typing import Any

from dtp_edge.errors import InputError

ENTRY_POINT = "dtp_edge.report_sections"
_FILE = re.compile(r"section_(\w+)\.html\.j2")
_HEAD = re.compile(r"\{# (\d+) \| ([^|\n]+?)(?: \| (\w+))? #\}\n")


@dataclass(frozen=True)
class Section:
    """`name` is its id on the page, `field` what the report must have for it ("": nothing)."""

    place: int
    name: str
    title: str
    field: str
    text: str

    @property
    def file(self) -> str:
        return f"section_{self.name}.html.j2"


@cache
def all_sections() -> tuple[Section, ...]:
    """Return every section in order. Raises `InputError` for a template that does not say its place."""
    found = [
        _section(name[1], path.read_text(encoding="utf-8"))
        for path in resources.files("dtp_edge.report").joinpath("templates").iterdir()
        if (name := _FILE.fullmatch(path.name))
    ]
    found += [_section(point.name, point.load()) for point in metadata.entry_points(group=ENTRY_POINT)]
    return tuple(sorted(found, key=lambda section: (section.place, section.name)))


def sections_of(report: Mapping[str, Any]) -> list[Section]:
    """Return the sections that this report has."""
    return [s for s in all_sections() if not s.field or report.get(s.field)]


def _section(name: str, text: str) -> Section:
    head = _HEAD.match(text)
    if head is None:
        raise InputError(
            "a section of the report does not say where it stands",
            where=name,
            hint="Begin its template with a line such as {# 55 | Title #}.",
        )
    return Section(int(head[1]), name, head[2], head[3] or "", text)
