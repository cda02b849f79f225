"""Files that last: weights in safetensors, everything else in JSON, loaded without this run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.archive.folder import load_pruned as load_pruned
    from dtp_edge.archive.folder import save_pruned as save_pruned
    from dtp_edge.archive.graph_json import require_storable as require_storable

_HOMES = {
    "load_pruned": "folder",
    "require_storable": "graph_json",
    "save_pruned": "folder",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
