"""ST Edge AI: `network_c_info.json` (nodes, MACs, memory), and the times of `stedgeai validate --val-json`.

The first alone holds no times. The second lists the same nodes in running order with the milliseconds of
every call (`c_nodes`, as ST's ai_runner returns its profile).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader


def recognises(content: Content) -> bool:
    document = content.json
    return isinstance(document, dict) and {"graphs", "buffers", "memory_pools"} <= set(document)


def read(content: Content, times: Content | None) -> Printout:
    nodes = _nodes(content)
    if times is None:
        what = f"lists {len(nodes)} nodes and no times"
        raise content.fault(f"{what}: add the JSON that `stedgeai validate --val-json` wrote", "$.graphs")
    timed = _profile(times.json)["c_nodes"]
    if len(timed) != len(nodes):
        raise times.fault(f"times {len(timed)} nodes, {content.path.name} lists {len(nodes)}", "$.c_nodes")
    rows = []
    for index, (node, timing) in enumerate(zip(nodes, timed, strict=True)):
        path = f"$.c_nodes[{index}].c_durations"
        durations = timing.get("c_durations") if isinstance(timing, dict) else None
        values = durations if isinstance(durations, list) else [durations]
        ms = float(np.median([times.number(value, path) for value in values or [None]]))
        macs = node.get("macc")
        rows.append(
            PrintedRow(
                (content.name(node.get("name"), f"$.graphs[0].nodes[{index}].name"),),
                str(node.get("type", "")),
                ms,
                macs=None if macs is None else content.number(macs, f"$.graphs[0].nodes[{index}].macc"),
                unit=str(node.get("mapping", "")),
            )
        )
    return Printout(str(content.path), "ST Edge AI", tuple(rows), precision=_precision(content))


def is_validation(content: Content) -> bool:
    document = content.json
    return isinstance(document, dict) and isinstance(_profile(document).get("c_nodes"), list)


def _profile(document: dict[str, Any]) -> dict[str, Any]:
    inner = document.get("profiler")
    return inner if isinstance(inner, dict) else document


def _nodes(content: Content) -> list[dict[str, Any]]:
    graphs = content.member(content.json, "graphs", list, "$")
    nodes = content.member(graphs[0] if graphs else None, "nodes", list, "$.graphs[0]")
    for index, node in enumerate(nodes):
        if not isinstance(node, dict):
            raise content.fault("is not an object", f"$.graphs[0].nodes[{index}]")
    return nodes


def _precision(content: Content) -> str:
    held = [
        b
        for b in content.member(content.json, "buffers", list, "$")
        if isinstance(b, dict) and b.get("is_param")
    ]
    bits = [b.get("nbits") for b in held]
    return "int8" if bits and bits.count(8) > len(bits) / 3 else "fp32"


READER = Reader(
    title="ST Edge AI network_c_info.json",
    made_by="stedgeai generate …; stedgeai validate --mode target --val-json val.json …; give both files",
    fixture="stedgeai.json",
    fixture_from="written from ST's documented format (2.2 to 4.0.1); the tool needs an account",
    recognises=recognises,
    read=read,
    companion=is_validation,
    companion_fixture="stedgeai_times.json",
)
