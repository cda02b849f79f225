"""From joined printouts to rows of kernels, and to what a call costs beside its kernels.

Three things take time that no layer was found for. Rows that only turn the layout (a runtime takes its input
in its own order) cost by the values of the input. Where a profile timed whole calls too, what is missing of
them is a cost of a call and one of each kernel. Anything else raises all kernels of its network alike.
Where a typical call is shorter than the sum of its rows, which are means, they are lowered to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.features import FEATURES, kernel_features
from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.memory import weight_bytes
from dtp_edge.fitting.table_fit import fit_columns
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout_fit import COMPUTING, Row
from dtp_edge.measure.printout_join import Joined, row_kind
from dtp_edge.measure.printout_lanes import step_of, stepped

_FEW = 0.15  # of a network's time: where no more is loose, a kernel without a row runs inside another


@dataclass(frozen=True)
class Beside:
    """What a network costs beside its kernels: a call, a value of its inputs, and more for each kernel."""

    call_ms: float = 0.0
    input_ns_per_value: float = 0.0
    kernel_us: float = 0.0


def rows_of(joined: Sequence[Joined], precision: str, beside: Beside, lanes: int = 1) -> list[Row]:
    """Return the kernels that rows were found for, of all networks; `lanes`: see `printout_lanes`."""
    return [row for number, one in enumerate(joined) for row in _rows(one, number, precision, beside, lanes)]


def beside_of(joined: Sequence[Joined]) -> Beside:
    """Return what the printouts say of the time beside kernels."""
    per_value = [1e6 * _turning_ms(one) / values for one in joined if (values := _inputs(one)) > 0]
    timed = [one for one in joined if one.printout.latency_ms is not None]
    found: dict[str, float] = {}
    if timed:
        missing = np.array([1e3 * max(0.0, one.latency_ms - one.total_ms) for one in timed])
        whole = np.array([1e3 * one.latency_ms for one in timed])
        # a share of a long call is noise: short calls decide; the fit takes what is left at 10 % of `whole`
        weight = 1.0 / (1.0 + whole / float(np.min(whole)))
        launched = np.array([float(len(one.ms) + len(one.loose)) for one in timed])
        found = fit_columns({"call": weight, "kernel": launched * weight}, missing * weight)
    return Beside(
        call_ms=1e-3 * found.get("call", 0.0),
        input_ns_per_value=float(np.median(per_value)) if per_value else 0.0,
        kernel_us=found.get("kernel", 0.0),
    )


def _rows(joined: Joined, number: int, precision: str, beside: Beside, lanes: int) -> list[Row]:
    known = sum(joined.ms.values())
    raised = (joined.total_ms - _turning_ms(joined)) / max(known, 1e-9) * _typical(joined)
    held = sum(
        weight_bytes(tensor, precision) * tensor.dense_values
        for kernel in joined.lowered.kernels
        for name in kernel.weights
        if len((tensor := joined.layers.tensors[name]).shape) > 1
    )
    known_well, found = joined.loose_share < _FEW, []
    for index, kernel in enumerate(joined.lowered.kernels):
        ms = joined.ms.get(index)
        if ms == 0 or (ms is None and not known_well):  # below the profiler's clock; perhaps a loose row's
            continue
        features = _features(kernel, joined.layers, precision, lanes) | {"network_bytes": held}
        us = 0.0 if ms is None else 1e3 * ms * raised + beside.kernel_us
        found.append(Row(_key(kernel), features, us, number, index, kernel.op))
    return found


def _typical(joined: Joined) -> float:
    """Return what rows are times a typical call's: they are means, and interrupted calls are in them."""
    return min(1.0, joined.latency_ms / joined.total_ms)


def _turning_ms(joined: Joined) -> float:
    """Return the time of rows that no layer was found for and that turn a layout."""
    return sum(one.ms for one in joined.loose if row_kind(one.row) == "layout")


def _inputs(joined: Joined) -> int:
    return sum(joined.layers.tensors[name].dense_values for name in joined.layers.inputs)


def _key(kernel: Kernel) -> str:
    return kernel.family if kernel.family in COMPUTING else f"{kernel.family}.{kernel.op}"


def _features(kernel: Kernel, layers: LayerGraph, precision: str, lanes: int) -> dict[str, float]:
    """Return every feature of a kernel in the dense network."""
    found = kernel_features(kernel, layers, precision, step_of(kernel.family, lanes))
    return dict.fromkeys(FEATURES, 0.0) | {name: stepped(terms) for name, terms in found.items()}
