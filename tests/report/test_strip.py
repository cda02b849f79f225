"""The strip of blocks: runs of layers of one branch, their widths before and after, and what went."""

from __future__ import annotations

from typing import Any

from dtp_edge.report.page import render_page
from dtp_edge.report.strip import COLUMNS, MOST, strip_rows


def layer(name: str, dense: int, kept: int, branch: str | None = None, macs: float = 1.0) -> dict[str, Any]:
    row = {"name": name, "module": name, "kernel": "conv3x3", "dense_macs": macs, "pruned_macs": macs}
    return row | {"dense_shape": [1, dense, 8, 8], "pruned_shape": [1, kept, 8, 8], "branch": branch}


LAYERS = [
    layer("stem", 16, 16),
    layer("a.conv1", 16, 8, "a"),
    layer("a.bn", 16, 8, "a", macs=0.0),
    layer("a.conv2", 16, 16, "a"),
    layer("b.conv1", 32, 32, "b"),
    layer("b.conv2", 32, 32, "b"),
]


def test_layers_of_a_branch_are_one_block() -> None:
    (row,) = strip_rows(LAYERS, {"b"})
    assert [(b["name"], b["dense"], b["kept"], b["gone"]) for b in row] == [
        ("stem", 16, 16, False),
        ("a", 32, 24, False),
        ("b", 64, 0, True),
    ]
    assert row[1]["kept_height"] < row[1]["dense_height"] <= row[2]["dense_height"] == 100


def test_long_networks_go_to_further_rows_and_very_long_ones_are_not_drawn() -> None:
    many = [layer(f"l{i}", 8, 8) for i in range(2 * COLUMNS + 1)]
    assert [len(row) for row in strip_rows(many, set())] == [13, 13, 11]
    assert strip_rows([layer(f"l{i}", 8, 8) for i in range(MOST + 1)], set()) == []
    assert strip_rows([], set()) == []


def test_page_names_what_went_and_what_it_was_worth(report: dict[str, Any]) -> None:
    branch = {"saves_latency_ms": 0.25, "saves_macs": 1e6, "saves_params": 100.0, "loss_rise": 0.125}
    depth = {
        "branches": [{"name": "layer1.0", "gone": True, **branch}, {"name": "<b>x", "gone": False, **branch}],
        "refused": [{"name": "layer2 add", "code": "free", "reason": "costs <nothing>"}],
    }
    layers = [{**row, "branch": ".".join(row["name"].split(".")[:2]) or None} for row in report["layers"]]
    page = render_page({**report, "layers": layers, "depth": depth})
    assert "1 of 2 branches went" in page
    assert "+0.125" in page
    assert 'class="block gone"' in page
    assert "<b>x" not in page
    assert "costs &lt;nothing&gt;" in page
    assert 'href="#branches"' in page


def test_page_without_depth_has_no_such_section(report: dict[str, Any]) -> None:
    del report["depth"]
    assert 'id="branches"' not in render_page(report)
    page = render_page({**report, "depth": {"branches": [], "refused": []}})
    assert "No branches" in page


def test_the_waterfall_marks_what_went(report: dict[str, Any]) -> None:
    went = [row for row in report["layers"] if row["dense_latency_ms"] and not row["pruned_latency_ms"]]
    assert went
    assert "gone with its branch" in render_page(report)
    for row in went:
        row["pruned_latency_ms"] = 0.1
    assert "gone with its branch" not in render_page(report)
