"""The page of a sweep: whole, light, and true to its table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.sweep_table import sweep_table

from dtp_edge.errors import InputError
from dtp_edge.report import is_sweep, read_sweep, write_sweep
from dtp_edge.report.sweep_page import STATES, sweep_page
from dtp_edge.report.sweep_page import write_sweep as write

NASTY = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"


def test_every_state_of_a_cell_is_shown_with_its_reason(tmp_path: Path) -> None:
    table = sweep_table(2, 8)
    for row, state in zip(table["cells"], STATES, strict=False):
        row["state"] = state
    page = write_sweep(tmp_path, table).read_text()
    assert is_sweep(tmp_path)
    assert read_sweep(tmp_path)["cells"] == json.loads(json.dumps(table["cells"]))
    rows = re.findall(r'<tr id="([^"]+)"[^>]* data-state="(\w+)"', page)
    assert rows == [(row["id"], row["state"]) for row in table["cells"]]
    linked = set(re.findall(r'href="cells/([^"]+)/report.html"', page))
    assert linked == {row["id"] for row in table["cells"] if row["state"] == "done"}
    for row in table["cells"]:
        assert not row.get("reason") or row["reason"] in page


def test_the_page_loads_itself_anew_only_while_the_sweep_runs() -> None:
    table = sweep_table(1, 3)
    assert 'http-equiv="refresh"' in sweep_page(table | {"state": "running"})
    assert 'http-equiv="refresh"' not in sweep_page(table | {"state": "done"})


def test_a_thousand_cells_are_light(tmp_path: Path) -> None:
    assert write(tmp_path, sweep_table(10, 100)).stat().st_size < 3_000_000


def test_names_are_text() -> None:
    table = sweep_table(2, 3)
    table["model"] = table["data"] = table["command"] = table["devices"][0]["title"] = NASTY
    table["cells"][0] |= {"state": "failed", "reason": NASTY, "hint": NASTY, "budget": NASTY}
    table["cells"][1] |= {"state": "running", "phase": NASTY, "host": NASTY}
    assert "<img" not in sweep_page(table)
    assert "<script>window" not in sweep_page(table)


@pytest.mark.parametrize("change", [{"format": "other"}, {"cells": [{"id": "../x"}]}, {"state": "odd"}])
def test_a_table_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_sweep(tmp_path, sweep_table(1, 2))
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"sweep\.json"):
        read_sweep(tmp_path)
