"""Write report.json and report.html, whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
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
    write_text(out_dir / "report.html", page)
    write_text(out_dir / "report.json", text)  # last: it says that the run is finished
    return out_dir / "report.html"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one move. Lone surrogates, which file names can hold, become "?"."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), hint="Name another --out folder."
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
