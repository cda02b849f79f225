"""How a profile comes to be by measuring: this machine, a board, and a profile held against both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.measure.devices import load_profile as load_profile
    from dtp_edge.measure.host import host_profile as host_profile
    from dtp_edge.measure.host import is_this_machine as is_this_machine
    from dtp_edge.measure.kit import import_results as import_results
    from dtp_edge.measure.kit import write_kit as write_kit
    from dtp_edge.measure.on_board import board_hello as board_hello
    from dtp_edge.measure.on_board import check_on as check_on
    from dtp_edge.measure.on_board import measure_board as measure_board
    from dtp_edge.measure.on_board import time_on as time_on
    from dtp_edge.measure.procedure import measure_host as measure_host
    from dtp_edge.measure.profile_check import check_profile as check_profile
    from dtp_edge.measure.timing import Timing as Timing
    from dtp_edge.measure.timing import time_onnx as time_onnx

_HOMES = {
    "Timing": "timing",
    "board_hello": "on_board",
    "check_on": "on_board",
    "check_profile": "profile_check",
    "host_profile": "host",
    "import_results": "kit",
    "is_this_machine": "host",
    "load_profile": "devices",
    "measure_board": "on_board",
    "measure_host": "procedure",
    "time_on": "on_board",
    "time_onnx": "timing",
    "write_kit": "kit",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
