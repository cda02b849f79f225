"""The compact network: what the labels say remains, cut out and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.surgery.compaction import Compact as Compact
    from dtp_edge.surgery.compaction import compact as compact
    from dtp_edge.surgery.compaction import put_back as put_back
    from dtp_edge.surgery.difference import relative_error as relative_error
    from dtp_edge.surgery.fitting import Refit as Refit
    from dtp_edge.surgery.least_squares import refit as refit
    from dtp_edge.surgery.least_squares import refit_to_train as refit_to_train

_HOMES = {
    "Compact": "compaction",
    "Refit": "fitting",
    "compact": "compaction",
    "put_back": "compaction",
    "refit": "least_squares",
    "refit_to_train": "least_squares",
    "relative_error": "difference",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
