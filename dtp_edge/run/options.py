"""What the user chose, once and for all of a run, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtp_edge.cost.planners import Planner, planner_of
from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.int8 import precision_refusal
from dtp_edge.measure import load_profile
from dtp_edge.onnx.opsets import OPSET
from dtp_edge.profiles import Profile
from dtp_edge.transport import Budget

if TYPE_CHECKING:
    from dtp_edge.graph import PrunableNetwork
    from dtp_edge.run.further_formats import Wanted
    from dtp_edge.run.warm_start import WarmStart
    from dtp_edge.training import DataSource, Objective, Recipe
    from dtp_edge.training.phase import Progress

__all__ = ["NOBODY", "Listener", "Options", "Origin", "inputs_of", "is_source", "source_of"]


@dataclass(frozen=True)
class Origin:
    """Where a run came from, as its report says it; all of it optional."""

    command: str | None = None
    model_name: str | None = None
    weights_from: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listener:
    """Who is told how a run goes: `progress` of every step of training, `stage` of what begins otherwise."""

    progress: Progress | None = None
    stage: Callable[[str], None] | None = None

    def begin(self, text: str) -> None:
        """Say what the run does from here on."""
        if self.stage is not None:
            self.stage(text)


NOBODY = Listener()


@dataclass(frozen=True)
class Options:
    """What the user chose; see `prune_for_device` for each.

    `objective` is what is trained for; None: the data's own. `calibrate` is a data source or batches of
    inputs, of which `images` samples are read. `depth` None stands for: branches may go where there is data
    or a calibration. `part` names the submodule that is pruned; None: all of it.
    `int8_method` is one of `int8.quantize_onnx`; int8 that loses more than `int8_loss` of the headline is
    trained with its roundings (`run.aware`); `int8_per_tensor` gives weights one scale a tensor. Without
    `measure` nothing is timed; with `tensorboard` the curves are written to `out/tensorboard` while training.
    `on` is a board, as `ssh://USER@HOST`, where dense and pruned are timed in place of here. `shared` is a
    folder of what several runs have in common (`training.shared`, the dense file), if this is one of several;
    `warm` what a looser one left. `formats` are those that are wanted besides ONNX.
    """

    budget: Budget
    device: str | Path | Profile = "host"
    data: DataSource | None = None
    objective: Objective | str | None = None
    calibrate: Any = None
    images: int = 512
    recipe: Recipe | None = None
    epochs: int | None = None
    out: Path | None = None
    seed: int = 0
    exclude: tuple[str, ...] = ()
    depth: bool | None = None
    part: str | None = None
    resume: bool = False
    force: bool = False
    int8: bool = False
    int8_method: str = "best"
    int8_loss: float = 0.01
    int8_per_tensor: bool = False
    dynamic_batch: bool = False
    opset: int = OPSET
    measure: bool = True
    tensorboard: bool = False
    on: str | None = None
    shared: Path | None = None
    warm: WarmStart | None = None
    formats: Wanted | None = None
    origin: Origin = Origin()

    def profile(self) -> Profile:
        """Return the device's profile; "host" is measured where that was not done before.

        **Raises:** `UnsupportedError` where int8 was asked for and the device or the run cannot have it.
        """
        profile = load_profile(self.device)
        if self.int8:
            refuse_int8(profile, self.data if self.calibrate is None else self.calibrate)
        return profile

    def planner(self) -> Planner | None:
        """Return how another runtime plans its memory, where the RAM budget is judged by it."""
        wanted = self.formats
        return None if wanted is None or wanted.ram_by is None else planner_of(wanted.ram_by)

    @property
    def drops_branches(self) -> bool:
        """Whether branches may go: as asked, else where data or inputs say what each is worth."""
        informed = self.data is not None or self.calibrate is not None
        return informed if self.depth is None else self.depth

    def aim(self) -> Objective:
        """Return what is trained for. Raises `InputError` for a name that there is not, and without data."""
        found = aim_of(self.objective, self.data)
        if found is None:
            raise InputError("nothing is trained without data", where="objective", hint="Give data.")
        return found

    def schedule(self, network: PrunableNetwork) -> Recipe:
        """Return how to train: the recipe that was given, or the usual one for so many epochs.

        Unless it says whether, block outputs are distilled where the network has branches that may go.
        """
        from dtp_edge.training import Recipe
        from dtp_edge.training.recipe import BLOCK_DISTILL

        recipe = self.recipe
        if recipe is None:
            recipe = Recipe() if self.epochs is None else Recipe.for_epochs(self.epochs)
        if recipe.block_distill is not None:
            return recipe
        return replace(recipe, block_distill=BLOCK_DISTILL if network.branches else 0.0)

    def silent(self) -> Options:
        """Return these options for a process that writes and times nothing."""
        return replace(self, out=None, measure=False)


def source_of(data: DataSource | str | None) -> DataSource | None:
    """Return the data itself where its spec was given."""
    if not isinstance(data, str):
        return data
    from dtp_edge.training import load_data

    return load_data(data)


def aim_of(objective: Objective | str | None, data: DataSource | None) -> Objective | None:
    """Return the objective itself; None without data. Raises `InputError` where one has nothing to learn."""
    if data is None:
        if objective is not None:
            raise InputError("an objective needs data", where="objective", hint="Give data too.")
        return None
    from dtp_edge.training.objectives.registry import objective_of

    return objective_of(objective, data)


def inputs_of(calibrate: Any) -> Any:
    """Return the inputs themselves where their spec was given."""
    if not isinstance(calibrate, str):
        return calibrate
    from dtp_edge.training import load_inputs

    return load_inputs(calibrate)


def is_source(calibrate: Any) -> bool:
    """Whether calibration inputs are a data source's, and not batches."""
    return hasattr(calibrate, "train") and hasattr(calibrate, "input_shape")


def refuse_int8(profile: Profile, data: object) -> None:
    """Raise UnsupportedError where int8 was asked for and the device or the run cannot have it."""
    if reason := precision_refusal(profile):
        raise UnsupportedError(reason, where="--int8", hint="Leave --int8 out, or name an int8 profile.")
    if data is None:
        raise UnsupportedError(
            "int8 needs data to calibrate on",
            where="--int8",
            hint="Give --data or --calibrate, or leave --int8 out.",
        )
