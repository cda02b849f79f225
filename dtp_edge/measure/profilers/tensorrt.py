"""TensorRT: `trtexec --exportProfile`, and `--exportLayerInfo` beside it.

A fused layer's name joins those of its ONNX nodes by ` + `; `--profilingVerbosity=detailed` writes them apart
into the layer info's Metadata, as `[ONNX Layer: NAME]`.
"""

from __future__ import annotations

import re
from typing import Any

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_MARKS = re.compile(r"^(?:PWN|Reformatting CopyNode for \w+ Tensor \d+ to)\(?|[()]")


def recognises(content: Content) -> bool:
    document = content.json
    return isinstance(document, list) and any(
        isinstance(row, dict) and "averageMs" in row and "name" in row for row in document
    )


def read(content: Content, info: Content | None) -> Printout:
    told = {} if info is None else _layers(info)
    rows = []
    for index, row in enumerate(content.json):
        path = f"$[{index}]"
        if not isinstance(row, dict):
            raise content.fault("is not an object", path)
        if "name" not in row:  # the first says how often the network ran
            continue
        name = content.name(row["name"], f"{path}.name")
        kind, names = told.get(name, ("", ()))
        ms = content.number(row.get("medianMs", row.get("averageMs")), f"{path}.averageMs")
        rows.append(PrintedRow(names or _parts(name), kind or name, ms))
    return Printout(str(content.path), "TensorRT", tuple(rows))


def is_layer_info(content: Content) -> bool:
    document = content.json
    return isinstance(document, dict) and isinstance(document.get("Layers"), list)


def _layers(info: Content) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    for index, layer in enumerate(info.json["Layers"]):
        if isinstance(layer, str):  # without --profilingVerbosity=detailed: names alone
            continue
        path = f"$.Layers[{index}]"
        name = info.name(info.member(layer, "Name", str, path), path)
        found[name] = _kind(layer), tuple(_ONNX.findall(str(layer.get("Metadata", ""))))
    return found


def _kind(layer: dict[str, Any]) -> str:
    return str(layer.get("ParameterType") or layer.get("LayerType") or "")


def _parts(name: str) -> tuple[str, ...]:
    """Return the ONNX nodes that a fused layer names: `a + b`, `PWN(a, b)`."""
    return tuple(part.strip() for part in re.split(r" \+ |, |\|\|", _MARKS.sub("", name)) if part.strip())


READER = Reader(
    title="TensorRT profile (JSON)",
    made_by="trtexec --onnx=FILE --exportProfile=p.json --exportLayerInfo=l.json "
    "--profilingVerbosity=detailed",
    fixture="tensorrt.json",
    fixture_from="written from the documented format (samples/common/sampleReporting.cpp)",
    recognises=recognises,
    read=read,
    companion=is_layer_info,
    companion_fixture="tensorrt_layers.json",
)
