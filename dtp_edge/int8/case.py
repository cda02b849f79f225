"""What the passes over a quantiser's file know besides the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import PreconditionError

from dtp_edge.onnx.rewriting import Rewrite


@dataclass(frozen=True)
class Int8Case:
    """`float_nodes` names the nodes that were not quantised; `source` is the fp32 model that was, where its
    weights are to be rounded to scales that give the same bits everywhere, else None."""

    float_nodes: frozenset[str] = frozenset()
    source: ir.Model | None = None


class Int8Rewrite(Rewrite):
    """A pass over a QDQ file; `same_bits` marks those that belong to scales of the same bits everywhere."""

    same_bits: ClassVar[bool] = False

    def __init__(self, case: Int8Case) -> None:
        self.case = case

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError where scales are to stay as fine as the ranges allow."""
        super().requires(model)
        if self.same_bits and self.case.source is None:
            raise PreconditionError("the scales stay as fine as the ranges allow")
