"""The network as a strip of blocks, before and after: what a person sees at a glance of depth and widths.

A block is a run of layers of one branch, or a layer with weights outside of every branch. Its bar is as wide
as the widest tensor that its layers with weights put out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = 18  # blocks side by side; more go to further rows
MOST = 72  # beyond that a strip tells nothing


def strip_rows(layers: Sequence[Mapping[str, Any]], gone: set[str]) -> list[list[dict[str, Any]]]:
    """Return rows of blocks, each `name, dense, kept, gone` and bar heights in percent; [] without shapes."""
    blocks: list[dict[str, Any]] = []
    for layer in layers:
        dense, kept = (_channels(layer.get(f"{which}_shape")) for which in ("dense", "pruned"))
        if not layer.get("dense_macs") or dense is None:
            continue
        name = layer.get("branch") or layer.get("module") or layer["name"]
        if not blocks or blocks[-1]["name"] != name:
            blocks.append({"name": name, "dense": 0, "kept": 0, "gone": name in gone})
        block, now = blocks[-1], 0 if layer.get("kernel") == "gone" or kept is None else kept
        block["dense"], block["kept"] = block["dense"] + dense, block["kept"] + now
    if not blocks or len(blocks) > MOST:
        return []
    most = max(block["dense"] for block in blocks)
    for block in blocks:
        block["kept"] = 0 if block["gone"] else block["kept"]
        block["dense_height"] = max(6, round(100 * (block["dense"] / most) ** 0.5))
        block["kept_height"] = round(block["dense_height"] * block["kept"] / block["dense"])
    rows = -(-len(blocks) // COLUMNS)
    each = -(-len(blocks) // rows)
    return [blocks[i : i + each] for i in range(0, len(blocks), each)]


def _channels(shape: Sequence[int] | None) -> int | None:
    """Channels of a layer's output: of images dimension 1, else the last."""
    if not shape or len(shape) < 2:
        return None
    return int(shape[1] if len(shape) >= 4 else shape[-1])
