"""int8 that loses more than asked: the compact network is trained on with its roundings in it, then quantised
again; and if that is not enough, the layers that rounding hurts most stay in float.

The recipe is the run's own, at a tenth of its fine-tuning rate, with the compact network in float as teacher.
What is chosen is chosen on the hold-out; the test set is read for the report alone.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from dtp_edge.archive import save_pruned
from dtp_edge.int8 import quantize_onnx
from dtp_edge.int8.rounding import plain, rounded, see, sensitivity
from dtp_edge.onnx import export_onnx
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.proved import Cut
from dtp_edge.surgery import Compact
from dtp_edge.surgery.norm_folding import fold_norms

__all__ = ["Int8Trial", "recovered"]

RATE = 0.1  # of the fine-tuning rate: the network is trained already
LEFT_IN_FLOAT = (1, 2, 4)  # how many of the worst layers are tried in float
SHOWN_LAYERS = 200  # whose sensitivity is kept


@dataclass(frozen=True)
class Int8Trial:
    """An int8 file: `score` is on the hold-out, `how` says how it was made."""

    how: str
    path: Path
    score: float
    tried: tuple[dict[str, Any], ...]
    float_layers: tuple[str, ...] = ()
    network: nn.Module | None = field(default=None, repr=False)


def recovered(
    cut: Cut,
    options: Options,
    folder: Path,
    rows: Callable[[], Iterable[Any]],
    score: Callable[[Path], float],
    archive: Path,
    listener: Listener,
) -> dict[str, Any]:
    """Quantise `model.onnx` in `folder` to `model.int8.onnx`; train with rounding where that loses too much.

    `rows` gives calibration inputs anew each time, `score` the headline of a file on the hold-out. Where
    other weights won, the network with them is stored in `archive` for further formats.
    Returns what was tried and what each reached.
    """
    fp32, target = folder / "model.onnx", folder / "model.int8.onnx"
    before = score(fp32)
    share = cut.training is None or cut.training.objective.headline.unit == "%"
    wanted = before - options.int8_loss * (1.0 if share else abs(before))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".int8-") as place:
        trials = [_quantised("calibrated", fp32, Path(place) / "a.onnx", rows(), options, score)]
        layers, trained = {}, None
        if trials[0].score < wanted:
            listener.begin("training with int8's roundings")
            started = time.monotonic()
            network, layers = _trained(cut, options, rows())
            trained = {"epochs": _epochs(cut, options), "seconds": time.monotonic() - started}
            float_file = export_onnx(network, cut.task.network.example_inputs, Path(place) / "aware.onnx")
            aware = _quantised(
                "trained with rounding", float_file, Path(place) / "b.onnx", rows(), options, score
            )
            trials.append(dataclasses.replace(aware, network=network))
            trials += _mixed(trials, place, layers, fp32, float_file, wanted, rows, score, cut, options)
        best = max(trials, key=lambda trial: trial.score)
        best.path.replace(target)
    if best.network is not None:
        _store(cut, best.network, archive)
    return {
        "method": best.tried[0]["method"] if best.tried else None,
        "tried": list(best.tried),
        "bytes": target.stat().st_size,
        "how": best.how,
        "float_layers": list(best.float_layers),
        "trials": [{"how": t.how, "holdout": t.score, "float_layers": list(t.float_layers)} for t in trials],
        "wanted_holdout": wanted,
        "training": trained,
        "sensitivity": [{"layer": k, "error": v} for k, v in list(layers.items())[:SHOWN_LAYERS]],
    }


def _quantised(
    how: str,
    fp32: Path,
    path: Path,
    rows: Iterable[Any],
    options: Options,
    score: Callable[[Path], float],
    float_layers: tuple[str, ...] = (),
) -> Int8Trial:
    """Quantise a file but for some layers, and score what came out."""
    exclude = _nodes_of(fp32, float_layers)
    per_channel = not options.int8_per_tensor
    result = quantize_onnx(fp32, path, rows, options.int8_method, exclude=exclude, per_channel=per_channel)
    best = [asdict(row) for row in result.tried if row.method == result.method]
    rest = [asdict(row) for row in result.tried if row.method != result.method]
    return Int8Trial(how, path, score(path), (*best, *rest), float_layers)


def _mixed(
    trials: list[Int8Trial],
    place: str,
    layers: dict[str, float],
    fp32: Path,
    aware: Path,
    wanted: float,
    rows: Callable[[], Iterable[Any]],
    score: Callable[[Path], float],
    cut: Cut,
    options: Options,
) -> list[Int8Trial]:
    """Leave the worst layers in float, few at first, while the flash budget holds, until enough is kept."""
    limit, found = cut.task.limits.get("flash_bytes"), []
    base = max(trials, key=lambda trial: trial.score)
    source = fp32 if base.network is None else aware
    for count in LEFT_IN_FLOAT:
        if max(t.score for t in (*trials, *found)) >= wanted or count > len(layers):
            break
        worst = tuple(list(layers)[:count])
        path = Path(place) / f"float{count}.onnx"
        trial = _quantised(f"{base.how}, {count} in float", source, path, rows(), options, score, worst)
        if limit is not None and path.stat().st_size > limit:
            break
        found.append(dataclasses.replace(trial, network=base.network))
    return found


def _nodes_of(path: Path, layers: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes that read these layers' weights."""
    if not layers:
        return []
    graph = onnx.load(str(path), load_external_data=False).graph
    return [node.name for node in graph.node if set(node.input) & set(layers)]


def _trained(cut: Cut, options: Options, rows: Iterable[Any]) -> tuple[nn.Module, dict[str, float]]:
    """Return the compact network trained with its roundings, and what each layer's rounding costs alone."""
    from dtp_edge.training.run import fine_tune, open_session

    cut.compact.sync()
    graph = cut.compact.graph_module
    folded = copy.deepcopy(graph)
    fold_norms(folded)
    module = rounded(folded, per_channel=not options.int8_per_tensor)
    batches = [_tensors(row) for row in rows]
    see(module, batches)
    layers = sensitivity(module, batches[:8])
    recipe = dataclasses.replace(
        options.schedule(cut.task.network), ema=0.0, block_distill=0.0, mixed_precision="no"
    )
    recipe = dataclasses.replace(
        recipe, tune_learning_rate=RATE * recipe.tune_learning_rate, seed=options.seed
    )
    if options.data is None or cut.training is None:
        return plain(module, folded), layers
    session = open_session(
        options.data, recipe, objective=cut.training.objective, network=cut.task.network.module
    )
    session.judge = cut.training.judge
    teacher = session.judge or copy.deepcopy(graph).requires_grad_(False).eval()
    fine_tune(module, session, teacher, name="int8", epochs=_epochs(cut, options))
    return plain(module.cpu(), folded).eval(), layers


def _epochs(cut: Cut, options: Options) -> float:
    return max(1.0, options.schedule(cut.task.network).tune_epochs)


def _tensors(row: Any) -> tuple[torch.Tensor, ...]:
    values = row if isinstance(row, tuple | list) else (row,)
    return tuple(torch.as_tensor(value) for value in values)


def _store(cut: Cut, network: nn.Module, archive: Path) -> None:
    """Store the network with its other weights as further formats read it."""
    compact: Compact = dataclasses.replace(
        cut.compact,
        module=network,
        graph_module=network,
        kind="graph",  # type: ignore[arg-type]
    )
    archive.mkdir(parents=True, exist_ok=True)
    save_pruned(archive, compact, cut.task.network, cut.keep, {})
