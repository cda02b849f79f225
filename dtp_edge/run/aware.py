"""int8 that loses more than asked: its channels are brought to like ranges; if that is not enough, the
compact network is trained on with its roundings in it and quantised again; and if that is not, the layers
that rounding hurts most stay in float.

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
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import fx, nn

from dtp_edge.archive import save_pruned
from dtp_edge.int8 import quantize_onnx
from dtp_edge.int8.equalise import equalise
from dtp_edge.int8.rounding import plain, rounded, see, sensitivity
from dtp_edge.onnx import export_onnx
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.priced_float import price_in_float
from dtp_edge.run.proved import Cut
from dtp_edge.surgery import Compact
from dtp_edge.surgery.norm_folding import fold_norms

if TYPE_CHECKING:
    from dtp_edge.training import DataSource, TrainingOutcome

__all__ = ["Aim", "Int8Trial", "recovered"]

RATE = 0.1  # of the fine-tuning rate: the network is trained already
LEFT_IN_FLOAT = (1, 2, 4)  # how many of the worst layers are tried in float
SHOWN_LAYERS = 200  # whose sensitivity is kept


@dataclass(frozen=True)
class Int8Trial:
    """An int8 file: `score` is on the hold-out, `how` says how it was made, `source` is the float file that
    it was made of and `network` the network in that, where it is not the cut as it was trained."""

    how: str
    path: Path
    source: Path
    score: float
    tried: tuple[dict[str, Any], ...]
    float_layers: tuple[str, ...] = ()
    network: fx.GraphModule | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Aim:
    """What int8 files are made and judged by: `rows` gives calibration inputs anew each time, `score` the
    headline of a file on the hold-out, larger is better, and `wanted` is enough of it. `training` is what
    the weights went through on `data`; files are made in `folder`."""

    options: Options
    training: TrainingOutcome
    data: DataSource
    rows: Callable[[], Iterable[Any]]
    score: Callable[[Path], float]
    folder: Path
    wanted: float = 0.0

    def trial(
        self,
        how: str,
        source: Path,
        float_layers: tuple[str, ...] = (),
        network: fx.GraphModule | None = None,
    ) -> Int8Trial:
        """Quantise a float file but for some layers, and score what came out."""
        path = self.folder / f"{how.replace(' ', '-')}.onnx"
        result = quantize_onnx(
            source,
            path,
            self.rows(),
            self.options.int8_method,
            exclude=_nodes_of(source, float_layers),
            per_channel=not self.options.int8_per_tensor,
        )
        tried = sorted(result.tried, key=lambda row: row.method != result.method)
        rows = tuple(asdict(row) for row in tried)
        return Int8Trial(how, path, source, self.score(path), rows, float_layers, network)


def recovered(cut: Cut, aim: Aim, archive: Path, listener: Listener) -> dict[str, Any]:
    """Quantise `model.onnx` of the aim's folder to `model.int8.onnx`; where that loses too much, equalise,
    then train with rounding, then leave layers in float.

    Where other weights won, the network with them is stored in `archive` for further formats.
    Returns what was tried and what each reached.
    """
    fp32, target = aim.folder / "model.onnx", aim.folder / "model.int8.onnx"
    before, share = aim.score(fp32), aim.training.objective.headline.unit == "%"
    wanted = before - aim.options.int8_loss * (1.0 if share else abs(before))
    with tempfile.TemporaryDirectory(dir=aim.folder, prefix=".int8-") as place:
        aim = dataclasses.replace(aim, wanted=wanted, folder=Path(place))
        trials = [aim.trial("calibrated", fp32)]
        layers, trained, unpriced = {}, None, ""
        if trials[0].score < wanted:
            folded = _folded(cut)
            trials += _equalised(cut, folded, aim)
            batches = [_tensors(row) for row in aim.rows()]
            start = max(trials, key=_score).network or folded
            module, layers = _rounded(start, batches, aim.options)
            if max(map(_score, trials)) < wanted:
                listener.begin("training with int8's roundings")
                started = time.monotonic()
                network = _trained(cut, module, start, aim)
                trained = {"epochs": _epochs(cut, aim.options), "seconds": time.monotonic() - started}
                source = _exported(cut, network, Path(place) / "aware.onnx")
                trials.append(aim.trial("trained with rounding", source, network=network))
            mixed, unpriced = _mixed(cut, max(trials, key=_score), layers, aim)
            trials += mixed
        best = max(trials, key=_score)
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
        "left_in_float": unpriced or None,
    }


def _score(trial: Int8Trial) -> float:
    return trial.score


def _folded(cut: Cut) -> fx.GraphModule:
    """Return a copy of the compact network with its norms folded."""
    cut.compact.sync()
    folded = copy.deepcopy(cut.compact.graph_module)
    fold_norms(folded)
    return folded


def _exported(cut: Cut, network: fx.GraphModule, path: Path) -> Path:
    return export_onnx(network, cut.task.network.example_inputs, path)


def _equalised(cut: Cut, folded: fx.GraphModule, aim: Aim) -> list[Int8Trial]:
    """Return the trial of the same network with channels of like ranges; none where no layers allow it."""
    even = copy.deepcopy(folded)
    even.eval()
    if not equalise(even, _tensors(next(iter(aim.rows())))):
        return []
    return [aim.trial("equalised", _exported(cut, even, aim.folder / "even.onnx"), network=even)]


def _mixed(cut: Cut, base: Int8Trial, layers: dict[str, float], aim: Aim) -> tuple[list[Int8Trial], str]:
    """Leave the worst layers in float, few at first, while the budget holds, until enough is kept.

    Returns the trials, and what ended them or says what they cost.
    """
    found: list[Int8Trial] = []
    text = ""
    for count in LEFT_IN_FLOAT:
        if max(map(_score, (base, *found))) >= aim.wanted or count > len(layers):
            break
        worst = tuple(list(layers)[:count])
        within, text = price_in_float(cut, worst)
        if not within:
            break
        found.append(aim.trial(f"{base.how}, {count} in float", base.source, worst, base.network))
    return found, text


def _nodes_of(path: Path, layers: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes that read these layers' weights."""
    if not layers:
        return []
    graph = onnx.load(str(path), load_external_data=False).graph
    return [node.name for node in graph.node if set(node.input) & set(layers)]


def _rounded(
    folded: fx.GraphModule, batches: list[tuple[torch.Tensor, ...]], options: Options
) -> tuple[fx.GraphModule, dict[str, float]]:
    """Return the network with its roundings in it, and what each layer's rounding costs alone."""
    module = rounded(folded, per_channel=not options.int8_per_tensor)
    see(module, batches)
    return module, sensitivity(module, batches[:8])


def _trained(cut: Cut, module: fx.GraphModule, folded: fx.GraphModule, aim: Aim) -> fx.GraphModule:
    """Train the network with its roundings in it; return it with its weights and without them."""
    from dtp_edge.training.run import fine_tune, open_session

    options, network = aim.options, cut.task.network
    recipe = options.schedule(network)
    recipe = dataclasses.replace(
        recipe,
        ema=0.0,
        block_distill=0.0,
        mixed_precision="no",
        tune_learning_rate=RATE * recipe.tune_learning_rate,
        seed=options.seed,
    )
    session = open_session(aim.data, recipe, objective=aim.training.objective, network=network.module)
    session.judge = aim.training.judge
    exact = copy.deepcopy(cut.compact.graph_module)
    teacher = session.judge or exact.requires_grad_(False).eval()
    fine_tune(module, session, teacher, name="int8", epochs=_epochs(cut, options))
    found = plain(module.cpu(), folded)
    found.eval()
    return found


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
