"""OpenVINO: `benchmark_app -report_type detailed_counters`: names of ONNX nodes, of the first node fused.

Its companion is the report that `benchmark_app` writes beside it, which has the time of a whole call.
"""

from __future__ import annotations

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_HEAD = ("layerName", "execStatus", "layerType", "execType")
_TIME = "realTime (ms)"
_REPORT, _LATENCY = "Command line parameters", "latency (ms)"


def recognises(content: Content) -> bool:
    return (
        tuple(cell.strip() for cell in content.lines[0].split(";")[:4]) == _HEAD if content.lines else False
    )


def is_report(content: Content) -> bool:
    return bool(content.lines) and content.lines[0].strip(" ;") == _REPORT


def read(content: Content, report: Content | None) -> Printout:
    rows, ended = [], False
    for number, cells in _calls(content):
        if cells["layerName"] == "Total":
            ended = True
        elif cells["execStatus"].endswith("EXECUTED"):
            name = cells["layerName"]
            names = (name, name.removesuffix("/WithoutBiases"))
            time = content.number(cells.get(_TIME), number)
            rows.append(PrintedRow(names, cells["layerType"], time, unit=cells["execType"]))
    if not ended:
        raise content.fault("ends without its Total: the file is cut off", len(content.lines))
    latency_ms = None if report is None else _latency_ms(report)
    return Printout(str(content.path), "OpenVINO", tuple(rows), latency_ms=latency_ms)


def _latency_ms(report: Content) -> float:
    """Return the median of a call, which runs its rows one after the other."""
    for number, text in enumerate(report.lines, 1):
        name, _, value = text.partition(";")
        if name.strip() == _LATENCY:
            return report.number(value.strip(" ;"), number)
    raise report.fault(f"has no {_LATENCY}: the file is cut off", len(report.lines))


def _calls(content: Content):
    """Yield the lines of the first table: one follows for each stream of calls."""
    for number, cells in content.table(1, ";"):
        if cells["layerName"] == _HEAD[0]:
            return
        yield number, cells
        if cells["layerName"] == "Total":
            return


READER = Reader(
    title="OpenVINO detailed counters (CSV)",
    made_by="benchmark_app -m FILE -hint none -api sync -nthreads 1 -nstreams 1 "
    "-report_type detailed_counters -report_folder DIR; give both files",
    fixture="openvino.csv",
    companion=is_report,
    companion_fixture="openvino_report.csv",
    fixture_from="benchmark_app of OpenVINO 2026.4",
    recognises=recognises,
    read=read,
)
