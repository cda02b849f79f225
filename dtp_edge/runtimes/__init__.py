"""Who can run the files: foreign runtimes, each behind an adapter in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.runtimes.advice import advice_for as advice_for
    from dtp_edge.runtimes.environment import make_environment as make_environment
    from dtp_edge.runtimes.formats.made_file import FormatRow as FormatRow
    from dtp_edge.runtimes.formats.made_file import make_file as make_file
    from dtp_edge.runtimes.placement import Placement as Placement
    from dtp_edge.runtimes.tflite import VelaEstimate as VelaEstimate
    from dtp_edge.runtimes.tflite import export_tflite as export_tflite
    from dtp_edge.runtimes.tflite import vela_estimate as vela_estimate
    from dtp_edge.runtimes.trial import RuntimeRow as RuntimeRow
    from dtp_edge.runtimes.trial import check_runtimes as check_runtimes
    from dtp_edge.runtimes.trial import list_runtimes as list_runtimes

_HOMES = {
    "FormatRow": "formats.made_file",
    "Placement": "placement",
    "RuntimeRow": "trial",
    "VelaEstimate": "tflite",
    "advice_for": "advice",
    "check_runtimes": "trial",
    "export_tflite": "tflite",
    "list_runtimes": "trial",
    "make_environment": "environment",
    "make_file": "formats.made_file",
    "vela_estimate": "tflite",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
