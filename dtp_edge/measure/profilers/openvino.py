"""OpenVINO: `benchmark_app -report_type detailed_counters`: names of ONNX nodes, of the first node fused."""

from __future__ import annotations

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_HEAD = ("layerName", "execStatus", "layerType", "execType")
_TIME = "realTime (ms)"


def recognises(content: Content) -> bool:
    return (
        tuple(cell.strip() for cell in content.lines[0].split(";")[:4]) == _HEAD if content.lines else False
    )


def read(content: Content, _: Content | None) -> Printout:
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
    return Printout(str(content.path), "OpenVINO", tuple(rows))


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
    "-report_type detailed_counters -report_folder DIR",
    fixture="openvino.csv",
    fixture_from="benchmark_app of OpenVINO 2026.4",
    recognises=recognises,
    read=read,
)
