"""Budgets as users write them."""

from __future__ import annotations

import pytest

from dtp_edge.errors import InputError
from dtp_edge.transport import Budget

DENSE = {"latency_ms": 20.0, "peak_ram_bytes": 2.0**20, "flash_bytes": 4e6, "macs": 4e8, "params": 1e6}


@pytest.mark.parametrize(
    ("given", "metric", "limit"),
    [
        ({"latency": "60%"}, "latency_ms", 12.0),
        ({"latency": "25ms"}, "latency_ms", 25.0),
        ({"latency": "1.5 s"}, "latency_ms", 1500.0),
        ({"latency": "800us"}, "latency_ms", 0.8),
        ({"latency": 25}, "latency_ms", 25.0),
        ({"latency": "25"}, "latency_ms", 25.0),
        ({"ram": "256KiB"}, "peak_ram_bytes", 262144.0),
        ({"ram": "256kB"}, "peak_ram_bytes", 256000.0),
        ({"ram": 1000}, "peak_ram_bytes", 1000.0),
        ({"flash": "1MiB"}, "flash_bytes", 1048576.0),
        ({"flash": "12.5%"}, "flash_bytes", 5e5),
        ({"macs": "300M"}, "macs", 3e8),
        ({"macs": 300e6}, "macs", 3e8),
        ({"macs": "0.3G"}, "macs", 3e8),
        ({"params": "1.5e5"}, "params", 1.5e5),
        ({"params": "100%"}, "params", 1e6),
        ({"keep": "50%"}, "kept_channels", 0.5),
        ({"keep": 0.5}, "kept_channels", 0.5),
    ],
)
def test_reads(given: dict[str, object], metric: str, limit: float) -> None:
    budget = Budget(**given)  # type: ignore[arg-type]
    assert budget.limits(DENSE) == {metric: pytest.approx(limit)}
    assert list(budget.texts()) == [metric]


def test_all_parts_hold_together() -> None:
    budget = Budget(latency="50%", ram="256KiB", macs=1e8)
    assert set(budget.limits(DENSE)) == {"latency_ms", "peak_ram_bytes", "macs"}
    assert str(budget) == "latency 50%, ram 256KiB, macs 100000000.0"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"latency": "fast"},
        {"latency": "0%"},
        {"latency": "-5ms"},
        {"latency": "120%"},
        {"latency": "5 KiB"},
        {"latency": float("nan")},
        {"latency": float("inf")},
        {"latency": True},
        {"latency": [1]},
        {"ram": "3 ms"},
        {"ram": 0.5},
        {"macs": 0.5},
        {"keep": 1.5},
        {"keep": "5MB"},
        {"layer_keep": {"a": "150%"}},
    ],
)
def test_refuses_and_shows_how_to_write_it(given: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        Budget(**given)  # type: ignore[arg-type]
    assert caught.value.hint


def test_layer_shares() -> None:
    assert Budget(layer_keep="50%").layer_shares(["a", "b"]) == {"a": 0.5, "b": 0.5}
    assert Budget(layer_keep={"a": 0.25}).layer_shares(["a", "b"]) == {"a": 0.25}
    with pytest.raises(InputError):
        Budget(layer_keep={"c": 0.25}).layer_shares(["a", "b"])
