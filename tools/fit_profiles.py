"""Fit every shipped profile again from the data folder: `python tools/fit_profiles.py DATA [NAME ...]`.

Writes hardware_profiles/NAME.json and the table benchmarks/results/profile_errors.csv.
"""

from __future__ import annotations

import csv
import datetime
import sys
from pathlib import Path

from dtp_edge.fitting.recipes import build, held_out, recipes
from dtp_edge.profiles.profile import profiles_dir, save_profile


def main(data: Path, names: list[str]) -> None:
    """Fit the named recipes (all of them by default) and record each network's held-out prediction."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    results = Path(__file__).parents[1] / "benchmarks" / "results" / "profile_errors.csv"
    rows = []
    for name in names or sorted(recipes()):
        document = build(name, data, date)
        save_profile(document, profiles_dir() / f"{name}.json")
        error = document["error"]
        held = held_out(name, data)
        sizes = " ".join(
            f"{label} {100 * value:5.1f} %"
            for label, value in (("median", held.median()), ("p90", held.p90()), ("max", held.relative.max()))
        )
        print(f"{name:36s} {error['status']:11s} n={error['n']:3d} {sizes}")
        rows += [
            [name, network, f"{predicted:.4g}", f"{measured:.4g}", f"{predicted / measured - 1:+.4f}"]
            for network, predicted, measured in zip(
                held.names, held.predicted_ms, held.measured_ms, strict=True
            )
        ]
    if not names:
        with results.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["profile", "network", "held_out_predicted_ms", "measured_ms", "relative_error"])
            writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
