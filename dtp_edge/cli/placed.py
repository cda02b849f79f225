"""Who computes what of a file that was checked: of whose time, in words, and held against a share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtp_edge.errors import CheckError

if TYPE_CHECKING:
    from dtp_edge.runtimes import RuntimeRow

SHOWN = 8


def kernels_of(path: Path, device: str | None) -> list[tuple[str, float]] | None:
    """Return our kernels in running order, (kind, predicted ms): by a device's profile, or as the report of
    the run that wrote the file has them; None where neither is there, and operators then count alike.
    """
    if device is None:
        return _reported(path.with_name("report.json"))
    from dtp_edge.cost import NetworkCost
    from dtp_edge.graph import trace_network
    from dtp_edge.measure import load_profile
    from dtp_edge.onnx.reader import load_onnx
    from dtp_edge.run.further_formats import kernel_times

    module, example = load_onnx(path)
    network = trace_network(module.eval(), example)
    cost = NetworkCost(network.layers, load_profile(device))
    return kernel_times(cost, cost.dense_sizes())


def _reported(path: Path) -> list[tuple[str, float]] | None:
    from dtp_edge.report import read_report

    if not path.is_file():
        return None
    layers = read_report(path).get("layers") or []
    return [(x["kernel"], float(x["pruned_latency_ms"] or 0)) for x in layers if x.get("fused_into") is None]


def placed_lines(row: RuntimeRow) -> Iterator[tuple[str, str]]:
    """Yield lines on what stays behind, with its share and what to change, and on whose memory was read."""
    from dtp_edge.runtimes import advice_for
    from dtp_edge.runtimes.formats.registry import FORMATS

    placement = row.placement
    if placement is not None and placement.left:
        left = [f"{o.name} ({o.kind}) {100 * o.share:.1f} %" for o in placement.left[:SHOWN]]
        more = len(placement.left) - len(left)
        text = ", ".join(left) + (f" and {more} more" if more else "")
        yield f"{row.runtime}, not by {placement.unit}:", f"{text}, of the {placement.by}"
        names = [name for name, one in FORMATS.items() if one.runtime == row.runtime]
        known = [t for name in names for o in placement.left if (t := advice_for(name, o.kind))]
        for text in dict.fromkeys(known):
            yield "what to change:", text
    if row.memory_of:
        yield f"{row.runtime}, memory:", row.memory_of


def require_share(rows: Sequence[RuntimeRow], text: str, named: Collection[str] = ()) -> list[str]:
    """Hold every unit against the share; return the runtimes that say nothing of who computes, and need not.

    Those that do say it for other files, and those that were `named`, break the promise by saying nothing.

    Raises `CheckError` with the operators' names where a unit takes less, or nobody says anything.
    """
    from dtp_edge.run.further_formats import share_of
    from dtp_edge.runtimes.formats.registry import FORMATS

    share, low, silent = share_of(text), [], []
    speaking = {one.runtime for one in FORMATS.values()} | {*named}
    ran = [row for row in rows if row.status == "ok"]
    for row in ran:
        if row.placement is None:
            silent.append(row.runtime)
            if row.runtime in speaking:
                low.append(f"{row.runtime} does not say who computes what")
        elif row.placement.delegated < share - 1e-9:
            names = ", ".join(o.name for o in row.placement.left[:SHOWN])
            low.append(f"{row.runtime} {100 * row.placement.delegated:.1f} %, left behind: {names}")
    if len(silent) == len(ran) and not low:
        low = ["no runtime that ran says who computes what"]
    if low:
        raise CheckError(
            f"less than {100 * share:g} % is delegated: {'; '.join(low)}",
            where="--require-delegated",
            hint="Replace these operators, ask for a smaller share, or name other runtimes by --runtime.",
        )
    return silent
