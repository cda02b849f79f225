"""Tables give back what was measured, interpolate a known law, and refuse nonsense with its path."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dtp_edge.cost.table import TableKernel
from dtp_edge.errors import InputError
from dtp_edge.fitting.table_fit import BLOCKED, LINEAR, fit_rates, fit_table


def linear_data(n: int = 300, noise: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    features = {
        "rows": np.exp(rng.uniform(0, 6, n)).round(),
        "cin": np.exp(rng.uniform(2, 7, n)).round(),
        "cout": np.exp(rng.uniform(2, 7, n)).round(),
        "batch": np.ones(n),
        "network_bytes": np.full(n, 1e7),
    }
    us = 2.0 + 1e-5 * features["rows"] * features["cin"] * features["cout"]
    return features, us * np.exp(noise * rng.standard_normal(n))


def test_rates_of_a_known_law_are_found():
    features, us = linear_data()
    rates = fit_rates(features, us, ("one", "product"))
    assert rates["one"] == pytest.approx(2.0, rel=0.01)
    assert rates["product"] == pytest.approx(1e-5, rel=0.01)


def test_table_survives_json_and_predicts_unseen_shapes():
    features, us = linear_data(noise=0.05)
    entry = json.loads(json.dumps(fit_table(features, us, LINEAR, "test")))
    table = TableKernel.from_json(entry, "kernels.linear")
    asked, truth = linear_data(seed=1)
    error = np.abs(table.latency_us(asked) / truth - 1)
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.95) < 0.15


def cross_validate(features, us, shape, folds):
    """Return predictions `[n]` of every row from tables fitted without its fold."""
    predicted = np.empty(len(us))
    for fold in np.unique(folds):
        out = folds == fold
        inside = {name: np.asarray(values)[~out] for name, values in features.items()}
        table = TableKernel.from_json(fit_table(inside, us[~out], shape, "fold"), "fold")
        predicted[out] = table.latency_us({name: np.asarray(v)[out] for name, v in features.items()})
    return predicted


def test_correction_learns_what_the_base_cannot_say():
    features, us = linear_data()
    bent = us * np.where(features["cin"] > 128, 1.5, 1.0)  # a cache edge that no term describes
    predicted = cross_validate(features, bent, LINEAR, np.arange(len(us)) % 5)
    table = TableKernel.from_json(fit_table(features, bent, LINEAR, "test"), "k")
    assert np.median(np.abs(predicted / bent - 1)) < 0.6 * np.median(
        np.abs(table.base_us(features) / bent - 1)
    )


def test_one_lucky_small_measurement_does_not_bend_the_table():
    features, us = linear_data()
    tiny = us < 3
    us = np.where(tiny, us + np.random.default_rng(0).uniform(-1.9, 1.9, len(us)), us)  # timer grain
    table = TableKernel.from_json(fit_table(features, us, LINEAR, "test"), "k")
    asked, truth = linear_data(seed=2)
    small = truth < 3
    assert small.sum() > 10
    assert table.latency_us(asked)[small].mean() == pytest.approx(truth[small].mean(), rel=0.35)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("base.us_per.product", lambda e: e["base"]["us_per"].update(product=-1.0)),
        ("base.us_per.magic", lambda e: e["base"]["us_per"].update(magic=1.0)),
        ("base.noise", lambda e: e["base"].update(noise=0)),
        ("columns", lambda e: e.update(columns=[*e["columns"][:-1], "seconds"])),
        ("rows", lambda e: e["rows"][0].__setitem__(-1, -3.0)),
        ("base.coordinates", lambda e: e["base"].update(coordinates={})),
    ],
)
def test_bad_tables_are_refused_with_the_path(path, change):
    entry = fit_table(*linear_data(), LINEAR, "test")
    change(entry)
    with pytest.raises(InputError, match=path.replace(".", r"\.")):
        TableKernel.from_json(entry, "kernels.linear")


def test_blocked_sets_are_monotone_and_exact_at_whole_blocks():
    rng = np.random.default_rng(0)
    n = 400
    one = np.ones(n)
    features = {
        "cin": 16.0 * rng.integers(1, 16, n),
        "cout": 16.0 * rng.integers(1, 16, n),
        **dict.fromkeys(("groups", "stride"), one),
        **dict.fromkeys(("kh", "kw"), 3 * one),
        **dict.fromkeys(("in_h", "in_w", "out_h", "out_w"), 14 * one),
        "extra_bytes": 0 * one,
        "network_bytes": 1e6 * one,
    }
    blocks = features["cout"] / 16
    sets = np.floor(blocks / 4) + 0.7 * (blocks % 4) / 4 + 0.3 * (blocks % 4 > 0)
    us = 1.0 + 0.05 * features["cin"] * sets
    table = TableKernel.from_json(fit_table(features, us, BLOCKED, "test"), "k")
    widths = np.arange(16, 241, 16.0)
    asked = {k: np.full(len(widths), v[0]) for k, v in features.items()} | {"cout": widths}
    asked["cin"] = np.full(len(widths), 128.0)
    times = table.latency_us(asked)
    assert (np.diff(times) > 0).all()
