"""What any widths cost on a device: latency, RAM, flash, MACs, parameters, and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.cost.network_cost import LayerCost as LayerCost
    from dtp_edge.cost.network_cost import NetworkCost as NetworkCost

_HOMES = {
    "LayerCost": "network_cost",
    "NetworkCost": "network_cost",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
