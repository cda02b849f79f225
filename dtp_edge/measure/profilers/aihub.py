"""Qualcomm AI Hub: a profile job's JSON (`job.download_profile()`)."""

from __future__ import annotations

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader


def recognises(content: Content) -> bool:
    document = content.json
    return isinstance(document, dict) and {"execution_summary", "execution_detail"} <= set(document)


def read(content: Content, _: Content | None) -> Printout:
    document = content.json
    summary = content.member(document, "execution_summary", dict, "$")
    detail = content.member(document, "execution_detail", list, "$")
    whole = content.number(
        summary.get("estimated_inference_time"), "$.execution_summary.estimated_inference_time"
    )
    times = [_amount(content, row, "execution_time", i) for i, row in enumerate(detail)]
    cycles = [_amount(content, row, "execution_cycles", i) for i, row in enumerate(detail)]
    amounts = times if sum(times) > 0 else cycles
    if not sum(amounts) > 0:
        raise content.fault("no layer has a time or cycles", "$.execution_detail")
    rows = tuple(
        PrintedRow(
            _names(content.name(row.get("name", ""), f"$.execution_detail[{i}].name")),
            str(row.get("type", "")),
            amount,
            unit=str(row.get("compute_unit", "")),
        )
        for i, (row, amount) in enumerate(zip(detail, amounts, strict=True))
    )
    # cycles of an NPU say each layer's share: the clock is that at which they add up to the measured call
    time_ms = 1e-3 if amounts is times else 1e-3 * whole / sum(amounts)
    peak = summary.get("estimated_inference_peak_memory")
    if peak is not None:
        content.number(peak, "$.execution_summary.estimated_inference_peak_memory")
    return Printout(str(content.path), "Qualcomm AI Hub", rows, time_ms=time_ms, latency_ms=1e-3 * whole)


def _amount(content: Content, row: object, key: str, index: int) -> float:
    path = f"$.execution_detail[{index}]"
    if not isinstance(row, dict):
        raise content.fault("is not an object", path)
    return content.number(row.get(key) or 0.0, f"{path}.{key}")


def _names(name: str) -> tuple[str, ...]:
    return tuple(part for part in (name, *name.replace("[", "").replace("]", "").split("+")) if part)


READER = Reader(
    title="Qualcomm AI Hub profile (JSON)",
    made_by='json.dump(hub.get_job("j…").download_profile(), file)',
    fixture="aihub.json",
    fixture_from="written from the fields of qai_hub 0.56 client.py; the service needs an account",
    recognises=recognises,
    read=read,
)
