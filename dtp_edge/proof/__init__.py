"""Is it the same function? Every answer is a `Check`, whatever the network raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.proof.alive import check_depends_on_input as check_depends_on_input
    from dtp_edge.proof.check import Check as Check
    from dtp_edge.proof.check import require as require
    from dtp_edge.proof.equality import check_masked_equals_compact as check_masked_equals_compact
    from dtp_edge.proof.other_sizes import with_free_sizes as with_free_sizes
    from dtp_edge.proof.own_network import check_traced_equals_own as check_traced_equals_own

_HOMES = {
    "Check": "check",
    "check_depends_on_input": "alive",
    "check_masked_equals_compact": "equality",
    "check_traced_equals_own": "own_network",
    "require": "check",
    "with_free_sizes": "other_sizes",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
