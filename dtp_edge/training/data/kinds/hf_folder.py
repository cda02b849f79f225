"""A data set of Hugging Face's `datasets` that `save_to_disk` wrote: texts as numbers, or pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.errors import InputError, first_line
from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.folders import split_kind
from dtp_edge.training.data.registry import Kind
from dtp_edge.training.data.source import DataSource

IGNORED = -100  # of a token's label: Hugging Face's own
_LABELS = ("labels", "label", "ner_tags", "pos_tags")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values", "input_values", "input_features")
_PADS = {"attention_mask": 0, "token_type_ids": 0, "input_ids": 0}
_HINT = (
    "Tokenise first: columns input_ids, attention_mask (or pixel_values, input_values), and label or labels."
)


class Columns(Dataset):
    """Samples `({name: tensor}, label)`: texts are filled up to one length, their labels with -100."""

    def __init__(self, rows: Any, inputs: list[str], labels: str, length: int) -> None:
        self.rows, self.inputs, self.labels, self.length = rows, inputs, labels, length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        row = self.rows[int(index)]
        inputs = {name: self._filled(row[name], _PADS.get(name)) for name in self.inputs}
        label = row[self.labels]
        return inputs, self._filled(label, IGNORED if isinstance(label, list) else None)

    def _filled(self, value: Any, fill: int | None) -> Tensor:
        found = torch.as_tensor(value)
        found = found.float() if found.is_floating_point() else found.long()
        if fill is None or found.dim() != 1:
            return found
        return torch.nn.functional.pad(found[: self.length], (0, self.length - len(found)), value=fill)


def hf_folder(folder: Path, workers: int) -> DataSource:
    """Open a folder. Raises `InputError` with the split and the row that is wrong."""
    splits = _splits(folder)
    learn = splits["train"]
    labels = next((name for name in _LABELS if name in learn.column_names), None)
    inputs = [name for name in _INPUTS if name in learn.column_names]
    if labels is None or not inputs:
        found = ", ".join(learn.column_names[:8])
        raise InputError(f"its columns are {found}", where=str(folder), hint=_HINT)
    names = _names(learn, labels)
    most = length = 0
    for kind, rows in splits.items():
        length, most = _checked(rows, kind, inputs, labels, length, most, names, str(folder))
    by_token = isinstance(learn[0][labels], list)
    sets = {k: Columns(rows, inputs, labels, length) for k, rows in splits.items()}
    return assemble(
        "hf",
        sets["train"],
        held=sets.get("val") if "test" in sets else None,
        test=sets.get("test", sets.get("val")),
        where=str(folder),
        collate=_batch,
        workers=workers,
        num_classes=len(names) or most,
        input_shape=() if len(inputs) > 1 else tuple(sets["train"][0][0][inputs[0]].shape),
        mean=(),
        std=(),
        task="token-classification" if by_token else "classification",
        folders=f"{folder}: {len(learn)} rows; {', '.join(inputs)}; {len(names) or most} classes in {labels}",
        facts={"classes": names, "length": length},
    )


def _splits(folder: Path) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "such folders are read by `datasets`, which is not installed",
            hint='pip install "dtp-edge[texts]"',
        ) from error
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow's and datasets' own errors
        why = f"cannot be read as a data set ({first_line(error)})"
        raise InputError(
            why, where=str(folder), hint="It must be a folder that save_to_disk wrote."
        ) from error
    found = found if isinstance(found, Mapping) else {"train": found}
    kinds = {kind: rows for name, rows in found.items() if (kind := split_kind(str(name))) is not None}
    if "train" not in kinds:
        raise InputError(f"has no train among {', '.join(map(str, found))}", where=str(folder), hint=_HINT)
    return dict(sorted(kinds.items(), key=lambda item: item[0] != "train"))


def _names(rows: Any, labels: str) -> list[str]:
    feature = rows.features[labels]
    feature = getattr(feature, "feature", feature)
    return list(getattr(feature, "names", None) or [])


def _checked(
    rows: Any, kind: str, inputs: list[str], labels: str, length: int, most: int, names: list[str], where: str
) -> tuple[int, int]:
    """Return the longest text and the number of classes so far; every row is looked at once."""
    limit = len(names) or (most if kind != "train" else 0)
    for number, row in enumerate(rows.select_columns([*inputs, labels])):
        place = f"{where}: {kind}, row {number}"
        label = row[labels]
        several = label if isinstance(label, list) else [label]
        sizes = {name: len(row[name]) for name in inputs if name in _PADS and isinstance(row[name], list)}
        if isinstance(label, list):
            sizes[labels] = len(label)
        if 0 in sizes.values() or len(set(sizes.values())) > 1:
            what = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InputError(f"the lengths are {what}", where=place, hint="Give each token one label.")
        for one in several:
            fine = isinstance(one, int) and (one >= 0 or (one == IGNORED and isinstance(label, list)))
            if not fine or (limit and one >= limit):
                last = f" to {limit - 1}" if limit else " up"
                what = f"{labels} holds {str(one)[:40]}, not a class from 0{last}"
                raise InputError(what, where=place, hint=_HINT)
        length = max(length, *sizes.values(), 0)
        most = max(most, 1 + max(several))
    return length, most


def _batch(samples: list[Any]) -> tuple[dict[str, Tensor], Tensor]:
    inputs = {name: torch.stack([one[name] for one, _ in samples]) for name in samples[0][0]}
    return inputs, torch.stack([label for _, label in samples])


KIND = Kind(
    "hf",
    "hf:DIR",
    "what `datasets` wrote by `save_to_disk`: `input_ids`, `attention_mask` (or `pixel_values`, "
    "`input_values`) and `label` (one a row) or `labels` (one a token)",
    lambda ask: hf_folder(ask.folder(), ask.workers),
    extra="texts",
)
