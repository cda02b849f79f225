"""ExecuTorch: the inspector's table as TSV. Names are a delegate's kernels': the order joins them."""

from __future__ import annotations

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_WHOLE = ("Method::execute", "Program::load_method", "Method::init", "Method::set_input")
_PARTS = ("DELEGATE_CALL", "OPERATOR_CALL")  # hold the kernels inside them


def recognises(content: Content) -> bool:
    return bool(content.lines) and {"event_block_name", "event_name"} <= set(content.lines[0].split("\t"))


def read(content: Content, _: Content | None) -> Printout:
    median = next((cell for cell in content.lines[0].split("\t") if cell.strip().startswith("p50")), None)
    if median is None:
        raise content.fault("has no column p50", 1)
    mean = median.replace("p50", "avg").strip()
    milliseconds = {"ms": 1.0, "us": 1e-3, "ns": 1e-6, "s": 1e3}
    unit = median.partition("(")[2].rstrip(") ") or "ms"
    if unit != "cycles" and unit not in milliseconds:
        raise content.fault(f"counts in {unit[:20]!r}", 1)
    rows, parts, whole = [], [], None
    for number, cells in content.table(1, "\t"):
        if cells["event_block_name"] != "Execute":
            continue
        name = cells["event_name"]
        if name in _WHOLE:
            whole = content.number(cells[median.strip()], number) if name == _WHOLE[0] else whole
            continue
        typical = content.number(cells[median.strip()], number) or content.number(cells[mean], number)
        row = PrintedRow(
            (name,),
            _kind(name, cells),
            typical,  # whole microseconds: the mean tells more where the median is none
            unit=cells.get("delegate_backend_name", ""),
        )
        (parts if name in _PARTS else rows).append(row)
    per = milliseconds.get(unit)
    return Printout(
        str(content.path),
        "ExecuTorch",
        tuple(rows or parts),
        time_ms=per,
        latency_ms=None if whole is None or per is None else whole * per,
    )


def _kind(name: str, cells: dict[str, str]) -> str:
    operators = cells.get("op_types", "").strip("[]' ")
    return operators or name


READER = Reader(
    title="ExecuTorch inspector (TSV)",
    made_by="python -m executorch.devtools.inspector.inspector_cli --etdump_path F.etdp --tsv_path F.tsv",
    fixture="executorch.tsv",
    fixture_from="ExecuTorch 1.5.1 with XNNPACK, ResNet-8",
    recognises=recognises,
    read=read,
)
