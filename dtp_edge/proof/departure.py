"""Where a compact network first departs from its labels: the text of a failed check."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.errors import first_line
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.ops.site import aten
from dtp_edge.surgery.kept import KeptIndices


def first_difference(network: PrunableNetwork, keep: np.ndarray, graph_module: fx.GraphModule) -> str:
    """Return the first node whose shape in the compact graph is not what the labels say; "" if none.

    For messages about a failed check: it runs the compact graph node by node.
    """
    kept = KeptIndices(network, np.asarray(keep, dtype=bool))
    old = {n.name: n for n in network.graph_module.graph.nodes}
    found: list[str] = []

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            try:
                value = super().run_node(n)
            except Exception as error:
                found.append(f"{n.name} ({n.target}) raises {first_line(error)}")
                raise
            if isinstance(value, torch.Tensor) and n.name in old:
                wanted = kept.shape(old[n.name])
                if list(value.shape) != wanted and not any(
                    u.target is aten.index_select.default for u in n.users
                ):
                    found.append(f"{n.name} ({n.target}) has shape {list(value.shape)}, labels say {wanted}")
            return value

    try:
        with torch.no_grad():
            Watch(graph_module).run(*network.example_inputs)
    except Exception as error:
        found.append(first_line(error))
    return found[0] if found else ""
