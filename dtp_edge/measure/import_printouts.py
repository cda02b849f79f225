"""`profile import`: what vendors' profilers wrote of networks, joined to them, as one device profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dtp_edge.errors import InputError
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout import Printout
from dtp_edge.measure.printout import read_printouts as read_printouts
from dtp_edge.measure.printout_fusion import fusion_of
from dtp_edge.measure.printout_join import Joined, join
from dtp_edge.measure.printout_profile import Setting as Setting
from dtp_edge.measure.printout_profile import profile_of
from dtp_edge.profiles.profile import Profile

LEAST_SHARE = 0.5  # of a network's time that must find a layer


def import_printouts(
    printouts: Sequence[Printout], networks: Sequence[tuple[str, LayerGraph]], setting: Setting
) -> tuple[Profile, list[Joined]]:
    """Return the profile, and what was joined of each printout; `networks` are (MODEL, layers) of each.

    **Raises:** `InputError` for printouts of several runtimes, for cycles without a clock, and where most
    of a network's time finds no layer: then it is another network's.
    """
    runtimes = sorted({printout.runtime for printout in printouts})
    if len(runtimes) > 1:
        raise InputError(
            f"profiles of {' and '.join(runtimes)} cannot be combined into one",
            hint="Import each runtime by itself.",
        )
    first = printouts[0]
    setting = replace(
        setting,
        precision=setting.precision or first.precision or "fp32",
        chip=first.chip if setting.chip == "unknown" and first.chip else setting.chip,
    )
    fusion = fusion_of(printouts, [layers for _, layers in networks])
    joined = []
    for printout, (model, layers) in zip(printouts, networks, strict=True):
        one = join(printout, model, layers, fusion, _unit_ms(printout, setting))
        if one.loose_share > LEAST_SHARE:
            why = one.loose[0].why
            raise InputError(
                f"{one.loose_share:.0%} of its time matches no layer of {model} ({why})",
                where=printout.path,
                hint="Name with --model the network that was profiled: the file that the runtime was given.",
            )
        joined.append(one)
    return profile_of(joined, fusion, setting), joined


def _unit_ms(printout: Printout, setting: Setting) -> float:
    if printout.time_ms is not None:
        return printout.time_ms
    if setting.clock_mhz is None:
        raise InputError(
            "counts cycles of a clock that it does not name",
            where=printout.path,
            hint="Add --clock-mhz, or the tool's summary file beside it.",
        )
    return 1e-3 / setting.clock_mhz
