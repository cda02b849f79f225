"""Vela: `NET_per-layer.csv`, cycles estimated for an Arm Ethos-U; the summary beside it holds the clock.

The names are those of the TFLite file: order and MACs join them.
"""

from __future__ import annotations

from dataclasses import replace

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader


def recognises(content: Content) -> bool:
    return bool(content.lines) and {"NNG Operator", "Op Cycles"} <= set(content.lines[0].split(","))


def read(content: Content, summary: Content | None) -> Printout:
    rows: list[PrintedRow] = []
    before = ""
    for number, cells in content.table(1, ","):
        source = cells.get("Original Operator", "")
        row = PrintedRow(
            tuple(part for part in cells["Name"].split(";") if part),
            source if source != "None" else cells["NNG Operator"],
            content.number(cells["Op Cycles"], number),
            macs=content.number(cells.get("MAC Count"), number),
            unit=cells.get("Target", ""),
        )
        if source == before and source != cells["NNG Operator"]:  # a further part of the same operator
            rows[-1] = replace(rows[-1], time=rows[-1].time + row.time)
        else:
            rows.append(row)
        before = source
    told = {} if summary is None else next((cells for _, cells in summary.table(1, ",")), {})
    clock = summary.number(told.get("core_clock"), 2, low=1.0) if summary is not None else None
    return Printout(
        str(content.path),
        "Vela (estimate)",
        tuple(rows),
        time_ms=None if clock is None else 1e3 / clock,
        precision="int8",
        chip=told.get("accelerator_configuration", ""),
        clock_mhz=None if clock is None else clock / 1e6,
    )


def is_summary(content: Content) -> bool:
    return bool(content.lines) and {"core_clock", "cycles_total"} <= set(content.lines[0].split(","))


READER = Reader(
    title="Vela per-layer performance (CSV)",
    made_by="vela NET.tflite --verbose-performance; give NET_per-layer.csv and NET_summary_….csv",
    fixture="vela.csv",
    fixture_from="ethos-u-vela 5.2.0, on MLPerf Tiny's image classification network",
    recognises=recognises,
    read=read,
    companion=is_summary,
    companion_fixture="vela_summary.csv",
    notes="Cycles are the compiler's own estimate, not a measurement.",
)
