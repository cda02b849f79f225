"""One network pruned in several ways with the same further steps: cut at once then trained, masks learned, or
a calibration first.

What a stopped run has done lies in its folder, and is not done again.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import dtp_edge as dtp
from dtp_edge.training import (
    DataSource,
    Recipe,
    evaluate,
    fine_tune,
    open_session,
    recalibrate,
    train_base,
    with_seed,
)
from dtp_edge.training.data.source import batches_per_epoch
from dtp_edge.training.recipe import MASK_SHARE

__all__ = ["Trial"]


@dataclass
class Trial:
    """`base` optimiser steps make the dense network, `steps` more the control and the pruned ones.

    `recipe` says all but the lengths; two fifths of the steps learn `masks`, or a calibration decides and all
    of them tune. Everything is kept in `folder`.
    """

    model: nn.Module
    example: Any
    data: DataSource
    recipe: Recipe
    base: int
    steps: int
    device: str
    latency: str
    folder: Path
    seed: int = 0
    depth: bool = False
    part: str | None = None
    masks: bool = True

    def run(self) -> tuple[dtp.PruneResult, dict[str, Any]]:
        """Return what the learned way made, and the fields of a row that say how all did."""
        began, seconds = time.process_time(), {}
        epoch = batches_per_epoch(len(self.data.train), self.recipe.batch_size)
        whole, recipe = self.steps / epoch, with_seed(self.recipe, self.seed)
        share = MASK_SHARE if self.masks else 0.0
        recipe = replace(recipe, mask_epochs=share * whole, tune_epochs=(1 - share) * whole)
        self._train_base(replace(with_seed(self.recipe, self.seed), base_epochs=self.base / epoch))
        print("base trained", flush=True)
        seconds["base"] = round(time.process_time() - began)
        at_once = _once(
            self.folder / f"one-shot-{self.base}-{self.steps}.json",
            lambda: self._cut_at_once(replace(recipe, mask_epochs=0.0, tune_epochs=whole)),
        )
        print(at_once, flush=True)
        seconds["one_shot"] = round(time.process_time() - began - seconds["base"])
        how = ("learned" if self.masks else "calibrated") + ("-depth" if self.depth else "")
        out = self.folder / f"{how}-{self.base}-{self.steps}"
        learned = dtp.prune_for_device(
            self.model,
            self.example,
            device=self.device,
            budget=dtp.Budget(latency=self.latency),
            data=self.data,
            recipe=recipe,
            seed=self.seed,
            depth=self.depth,
            part=self.part,
            out=out,
            resume=(out / "checkpoint").is_dir(),
            force=True,
        )
        seconds["learned_and_control"] = round(time.process_time() - began - sum(seconds.values()))
        found = learned.report["accuracy"]
        branches = learned.report["depth"]["branches"] if self.depth else []
        row = {
            "seed": self.seed,
            "steps": [self.base, self.steps],
            "depth": self.depth,
            "masks": self.masks,
            **({"branches": [sum(b["gone"] for b in branches), len(branches)]} if self.depth else {}),
            **{key: found.get(key) for key in ("base", "control", "at_cut", "pruned", "n_test")},
            **at_once,
            "report": {k: found[k] for k in ("metric", "unit", "headline", "intervals") if k in found},
            "phase_seconds": learned.report["run"]["parts_s"],
            "cpu_seconds": seconds,
        }
        return learned, row

    def _train_base(self, recipe: Recipe) -> None:
        kept = self.folder / f"base-{self.base}"
        session = open_session(
            self.data, recipe, network=self.model, checkpoint_dir=kept, resume=kept.is_dir()
        )
        train_base(self.model, session)

    def _cut_at_once(self, recipe: Recipe) -> dict[str, Any]:
        """Cut by the weights, then train as long as the others; what it scores on the test set."""
        model, data, size = copy.deepcopy(self.model), self.data, recipe.batch_size
        budget = dtp.Budget(latency=self.latency)
        cut = dtp.prune_for_device(model, self.example, device=self.device, budget=budget, part=self.part)
        session, teacher = open_session(data, recipe, network=model), copy.deepcopy(model)
        teacher.requires_grad_(False)
        module = cut.module
        recalibrate(module, data, recipe.recalibrate_batches, size, recipe.seed, feed=session.feed)
        before = evaluate(module, data.test, size, feed=session.feed)
        fine_tune(module, session, teacher if recipe.distill else None)
        return {"one_shot_at_cut": before, "one_shot": evaluate(module, data.test, size, feed=session.feed)}


def _once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a stopped run wrote to `file`, or make and write it."""
    if not file.is_file():
        file.write_text(json.dumps(make()))
    return json.loads(file.read_text())
