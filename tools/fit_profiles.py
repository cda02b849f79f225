"""Fit every shipped profile again from the data folder: `python tools/fit_profiles.py DATA [NAME ...]`.

Writes hardware_profiles/NAME.json and the table benchmarks/results/profile_errors.csv.
"""

from __future__ import annotations

import csv
import datetime
import sys
from pathlib import Path

from dtp_edge.fitting.recipes import document, parts, recipes
from dtp_edge.profiles.profile import save_profile
from dtp_edge.profiles.shipped import profiles_dir

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "profile_errors.csv"
HEADER = ["profile", "network", "held_out_predicted_ms", "measured_ms", "relative_error"]


def main(data: Path, names: list[str]) -> None:
    """Fit the named recipes (all of them by default) and record each network's held-out prediction."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = _rows_of_others(names)
    for name in names or sorted(recipes()):
        made = parts(name, data)
        written, held = document(name, made, date), made.held
        save_profile(written, profiles_dir() / f"{name}.json")
        sizes = " ".join(
            f"{label} {100 * value:5.1f} %"
            for label, value in (("median", held.median()), ("p90", held.p90()), ("max", held.relative.max()))
        )
        print(f"{name:36s} {written['error']['status']:11s} n={len(held.names):3d} {sizes}", flush=True)
        rows += [
            [name, network, f"{predicted:.4g}", f"{measured:.4g}", f"{predicted / measured - 1:+.4f}"]
            for network, predicted, measured in zip(
                held.names, held.predicted_ms, held.measured_ms, strict=True
            )
        ]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(sorted(rows, key=lambda row: row[0]))


def _rows_of_others(names: list[str]) -> list[list[str]]:
    """Return what is known of shipped profiles that are not fitted now."""
    if not names or not RESULTS.is_file():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        known = set(recipes()) - set(names)
        return [row for row in list(csv.reader(file))[1:] if row[0] in known]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
