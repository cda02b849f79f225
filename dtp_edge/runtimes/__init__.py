"""Who can run the files: foreign runtimes, each behind an adapter in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.runtimes.tflite import VelaEstimate as VelaEstimate
    from dtp_edge.runtimes.tflite import export_tflite as export_tflite
    from dtp_edge.runtimes.tflite import vela_estimate as vela_estimate
    from dtp_edge.runtimes.trial import RuntimeRow as RuntimeRow
    from dtp_edge.runtimes.trial import check_runtimes as check_runtimes
    from dtp_edge.runtimes.trial import list_runtimes as list_runtimes

_HOMES = {
    "RuntimeRow": "trial",
    "VelaEstimate": "tflite",
    "check_runtimes": "trial",
    "export_tflite": "tflite",
    "list_runtimes": "trial",
    "vela_estimate": "tflite",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
