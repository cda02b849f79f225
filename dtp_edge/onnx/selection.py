"""What a file picks (TopK, ArgMax, ArgMin), and a network that is run with the same picks.

Two candidates whose scores differ by less than rounding may stand in either order, and everything that is
computed from them changes places. So the network is given the picks of the file: its outputs can then be
compared place by place, and what it was given is judged by the network's own scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dtp_edge.files.sessions import open_session

_PICKS = {"TopK", "ArgMax", "ArgMin"}
_aten = torch.ops.aten
# operator: the argument that says whether it takes the largest first, or the answer
_CALLS: dict[Any, str | bool] = {
    _aten.topk.default: "largest",
    _aten.sort.default: "descending",
    _aten.sort.stable: "descending",
    _aten.argmax.default: True,
    _aten.argmin.default: False,
    _aten.max.dim: True,
    _aten.min.dim: False,
}


@dataclass(frozen=True)
class Pick:
    """One selection in the file on one input: `indices` into `scores` along `axis`, which both keep."""

    scores: np.ndarray
    indices: np.ndarray
    axis: int
    largest: bool

    @property
    def chosen(self) -> np.ndarray:
        """The scores that were picked."""
        return np.take_along_axis(self.scores, self.indices, self.axis)


def file_picks(
    path: Path, model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]]
) -> list[list[Pick]]:
    """Return the selections that the file makes on each input, [] where it makes none.

    `model` is the file without its external weights; it gets more outputs.
    """
    nodes = [n for n in model.graph.node if n.op_type in _PICKS and n.output[-1]]
    if not nodes:
        return []
    seen = {name: f"seen:{name}" for n in nodes for name in (n.input[0], n.output[-1])}
    for name, output in seen.items():
        model.graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    # external weights lie beside the file, and a model that is given as bytes has no place of its own
    beside = {"session.model_external_initializers_file_folder_path": str(path.parent)}
    session = open_session(model.SerializeToString(), entries=beside, where=str(path))
    found = [dict(zip(seen, session.run(list(seen.values()), feed), strict=True)) for feed in feeds]
    return [[_pick(n, np.asarray(v[n.input[0]]), np.asarray(v[n.output[-1]])) for n in nodes] for v in found]


def _pick(node: onnx.NodeProto, scores: np.ndarray, indices: np.ndarray) -> Pick:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axis = given.get("axis", -1 if node.op_type == "TopK" else 0) % scores.ndim
    if indices.ndim < scores.ndim:
        indices = np.expand_dims(indices, axis)
    return Pick(scores, indices, axis, node.op_type != "ArgMin" and bool(given.get("largest", 1)))


class Picking(TorchDispatchMode):
    """Inside, selections that the file makes too are made as the file makes them.

    `own` and `file` then hold what must agree for each: all scores, the best scores (that the file's picks
    are the best by the network's own scores), and the scores of what was picked, place by place.
    A selection without a counterpart in the file is left as it is.
    """

    def __init__(self, picks: Sequence[Pick]) -> None:
        super().__init__()
        self.picks = picks
        self.own: list[np.ndarray] = []
        self.file: list[np.ndarray] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator; a selection with the file's indices."""
        result = func(*args, **(kwargs or {}))
        if func not in _CALLS:
            return result
        names = [a.name for a in func._schema.arguments]
        given = {a.name: a.default_value for a in func._schema.arguments}
        given |= dict(zip(names, args, strict=False)) | (kwargs or {})
        scores, axis, largest = args[0], given["dim"], _CALLS[func]
        if axis is None or not scores.ndim:
            return result
        axis %= scores.ndim
        largest = given[largest] if isinstance(largest, str) else largest
        squeezed = not given.get("keepdim", "keepdim" not in given)
        indices = result if isinstance(result, torch.Tensor) else result[1]
        wanted = indices.unsqueeze(axis) if squeezed else indices
        pick = self._counterpart(scores, wanted, axis, bool(largest))
        if pick is None:
            return result
        index = torch.from_numpy(pick.indices.astype(np.int64))
        chosen = scores.gather(axis, index)
        self._compare(scores, scores.gather(axis, wanted), chosen, pick)
        if squeezed:
            index, chosen = index.squeeze(axis), chosen.squeeze(axis)
        return index if isinstance(result, torch.Tensor) else (chosen, index)

    def _counterpart(
        self, scores: torch.Tensor, indices: torch.Tensor, axis: int, largest: bool
    ) -> Pick | None:
        """Return the selection of the file with these shapes and the nearest scores."""
        own = _array(scores)
        alike = [
            p
            for p in self.picks
            if (p.scores.shape, p.indices.shape) == (own.shape, tuple(indices.shape))
            and (p.axis, p.largest) == (axis, largest)
        ]
        return min(alike, key=lambda p: _distance(own, p.scores), default=None)

    def _compare(self, scores: torch.Tensor, best: torch.Tensor, chosen: torch.Tensor, pick: Pick) -> None:
        pairs = (
            (_array(scores), pick.scores),
            (np.sort(_array(best), pick.axis), np.sort(pick.chosen, pick.axis)),
            (_array(chosen), pick.chosen),
        )
        for own, file in pairs:
            masked = np.isinf(own) & (own == file)  # candidates that both rule out
            self.own.append(np.where(masked, 0, own))
            self.file.append(np.where(masked, 0, file))


def _distance(own: np.ndarray, file: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):  # infinities
        return float(np.nan_to_num(np.abs(own - file.astype(np.float64))).mean())


def _array(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
