"""A table of measurements as samples: the one way in which recipes read theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dtp_edge.errors import InputError
from dtp_edge.fitting.rates import Sample
from dtp_edge.fitting.rows import KernelRow, read_csv

Found = tuple[str, str, tuple[KernelRow, ...], float]  # name, family, kernels, milliseconds


def read_samples(path: Path, row: Callable[[Mapping[str, str]], Found | None]) -> tuple[Sample, ...]:
    """Return a sample for every line of a CSV file for which `row` returns one; None passes a line over.

    Raises `InputError` that names the line for a column that is missing, or a value that is no number or not
    positive, and for a table with no line of the wanted kind.
    """
    samples = []
    for number, line in enumerate(read_csv(path), start=2):
        try:
            found = row(line)
        except (KeyError, ValueError, TypeError) as error:
            where = f"{path}: line {number}"
            hint = "Name the file, of the version, that the recipe's data line gives."
            raise InputError(f"is not what this recipe reads: {error!r}", where=where, hint=hint) from error
        if found is None:
            continue
        if not found[3] > 0:
            raise InputError(
                f"{found[3]} ms is not a valid latency",
                where=f"{path}: line {number}",
                hint="Correct the line, or take it out.",
            )
        samples.append(Sample(*found))
    if not samples:
        raise InputError(
            "holds no measurement of this device",
            where=str(path),
            hint="Name the table that this recipe was written for, or another recipe.",
        )
    return tuple(samples)
