"""Write report.json and report.html, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.files import write_text
from dtp_edge.report.page import render_page
from dtp_edge.report.schema import plain, validate_report


def write_report(out_dir: str | Path, report: Mapping[str, Any]) -> Path:
    """Write `report` as report.html and then report.json in `out_dir`; return the path of the page.

    Each file is written under a temporary name and moved, so a reader never meets half of one.

    Raises InputError if the report does not follow `REPORT_SCHEMA`, or the folder cannot be written.
    """
    out_dir = Path(out_dir)
    checked = plain(report)
    validate_report(checked)
    text = json.dumps(checked, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    page = render_page(checked)
    hint = "Free some space there, or name another --out folder."
    write_text(out_dir / "report.html", page, hint=hint)
    write_text(out_dir / "report.json", text, hint=hint)  # last: it says that the run is finished
    return out_dir / "report.html"
