"""What a finished run hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from dtp_edge.runtimes import FormatRow


@dataclass
class PruneResult:
    """The compact network, the proof that it is right, and the reasons for what was left alone.

    **Attributes:**

    - `module`: the compact network; trains and runs. With `part=` the whole network with the compact part.
    - `masked`: the original network with the hard masks; computes what `module` computes.
    - `widths`: `{group name: (kept, total)}` in channels.
    - `kept`: `{parameter or buffer name: {dimension: kept indices}}`, enough to repeat the surgery by hand.
    - `frozen`: `[(group or node name, reason)]`.
    - `onnx`: path of the checked ONNX file; None with `out=None`.
    - `onnx_int8`: path of the int8 file, if one was asked for.
    - `formats`: a row for each further format that was asked for, made or not.
    - `report`: what `report.json` holds.
    """

    module: nn.Module
    masked: nn.Module
    widths: dict[str, tuple[int, int]]
    kept: dict[str, dict[int, list[int]]]
    frozen: list[tuple[str, str]]
    report: dict[str, Any]
    onnx: Path | None = None
    onnx_int8: Path | None = None
    out: Path | None = None
    formats: tuple[FormatRow, ...] = ()
    warnings: list[str] = field(default_factory=list)
