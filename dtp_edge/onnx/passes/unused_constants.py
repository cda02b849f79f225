"""Constants that nobody reads go: the axes of a mean that is a pool now, the weights that were re-ordered.

They would count as flash on a device that stores the file as it is.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.onnx.rewriting import Rewrite, readers


class UnusedConstants(Rewrite):
    """Every stored constant is read by a node or a subgraph, or is an output."""

    after = ("chosen_channels", "fusable_gelu", "merged_strides", "numbered_gather", "pooled_mean")

    def call(self, model: ir.Model) -> PassResult:
        unused = _unused(model.graph)
        for name in unused:
            del model.graph.initializers[name]
        return PassResult(model, bool(unused))

    def ensures(self, model: ir.Model) -> None:
        """No constant is left that nobody reads."""
        super().ensures(model)
        if unused := _unused(model.graph):
            raise PostconditionError(f"nobody reads {unused[0]!r}")


def _unused(graph: ir.Graph) -> list[str]:
    return [name for name, value in graph.initializers.items() if not readers(value)]
