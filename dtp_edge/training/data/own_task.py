"""A task that the user's own function describes: data sets, how they are loaded, what is trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, default_collate

from dtp_edge.errors import DtpEdgeError, InputError, nearest
from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.dataset_split import Told
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.objectives.base import Objective

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_by_index", "own_task"]

_FIELDS = (
    "train",
    "test",
    "holdout",
    "objective",
    "loader",
    "augments",
    "num_classes",
    "input_shape",
    "facts",
)
_LOADER = ("collate_fn", "num_workers")
_HINT = (
    "Return a dict with train, test, and where wanted holdout, objective, loader, num_classes: docs/data.md."
)


def own_task(made: Mapping[str, Any], name: str, where: str, workers: int) -> DataSource:
    """Return the data source of a dict: `train` and `test` are read by index, `objective` is one or a name.

    `loader` may hold `collate_fn` (else torch's own) and `num_workers`; with `augments` the training set is
    asked for `(row, seed)`, and draws by that seed. Raises `InputError`.
    """
    _refuse_strange(made, _FIELDS, where)
    loader = made.get("loader") or {}
    _refuse_strange(loader, _LOADER, f"{where}: loader")
    objective = made.get("objective", "classification")
    if not isinstance(objective, (str, Objective)):
        raise InputError(
            f"the objective is {type(objective).__name__}",
            where=where,
            hint="Give its name, or an object of a subclass of dtp_edge.training.Objective.",
        )
    sets = {part: made[part] for part in ("train", "holdout", "test") if made.get(part) is not None}
    for part in ("train", "test"):
        if part not in sets:
            raise InputError(f"has no {part}", where=where, hint=_HINT)
    for part, dataset in sets.items():
        check_by_index(part, dataset, where)
        if len(dataset) and isinstance(found := Told(dataset)[_first(made, part)], DtpEdgeError):
            raise found
    return assemble(
        name,
        sets["train"],
        held=sets.get("holdout"),
        test=sets["test"],
        where=where,
        collate=loader.get("collate_fn", default_collate),
        workers=int(loader.get("num_workers", workers)),
        augments=bool(made.get("augments", False)),
        num_classes=made.get("num_classes"),
        input_shape=tuple(made.get("input_shape", ())),
        mean=(),
        std=(),
        task=objective if isinstance(objective, str) else objective.name,
        objective=objective if isinstance(objective, Objective) else None,
        facts=dict(made.get("facts") or {}),
    )


def _first(made: Mapping[str, Any], part: str) -> Any:
    return (0, 0) if part == "train" and made.get("augments") else 0


def _refuse_strange(given: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"is {type(given).__name__}, not a dict", where=where, hint=_HINT)
    for name in given:
        if name not in known:
            near = nearest(str(name), known)
            batch = (
                "How large batches are says --set batch_size; their order is the run's own."
                if not near
                else ""
            )
            raise InputError(
                f"there is no '{name}'",
                where=where,
                hint=f"Did you mean {', '.join(near)}?" if near else f"{batch} There is {', '.join(known)}.",
            )


def check_by_index(part: str, dataset: Any, where: str) -> None:
    """Samples are drawn in an order of the run's own, the same after a stop: they must have numbers."""
    streams = isinstance(dataset, IterableDataset)
    counted = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not streams
    if not counted:
        raise InputError(
            f"the {part} set ({type(dataset).__name__}) cannot be read by index: it only iterates",
            where=where,
            hint="Give a dataset with __getitem__ and __len__; list(dataset) is one, if it fits into memory.",
        )
