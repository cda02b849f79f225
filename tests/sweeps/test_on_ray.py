"""Cells on a cluster of two nodes, of which one is lost: Ray starts its cells elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.small_sweep import Played, small_grid, subject
from helpers.waiting import wait_for

from dtp_edge.errors import InputError
from dtp_edge.sweeps.grid import Cell
from dtp_edge.sweeps.on_ray import OnRay
from dtp_edge.transport import Budget

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray", reason="could not import 'ray'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}, connect=False)
    yield made
    made.shutdown()


@pytest.mark.more
def test_a_node_that_is_lost_loses_no_cell_and_repeats_none(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    names = "abcd"
    cells = [
        Cell(name, "a", i, Budget(latency="50%"), parent="a" if name == "d" else None)
        for i, name in enumerate(names)
    ]
    acts = {"a": "until told", "b": "until told"}
    work = Played(cells, subject, small_grid("50%"), tmp_path, 1, None, acts)

    def lose_a_node() -> None:
        wait_for(lambda: len(list(tmp_path.glob("begun-*"))) >= 2, 120)
        cluster.remove_node(nodes[0], allow_graceful=False)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=lose_a_node)
    killer.start()
    ended = [one for one in OnRay(cluster.address, 1).run(work) if one is not None]
    killer.join()
    assert sorted(name for name, _ in ended) == list(names)
    assert {outcome["state"] for _, outcome in ended} == {"done"}
    begun = sorted(path.name.split("-")[1] for path in tmp_path.glob("begun-*"))
    assert len(begun) == 5  # the lost cell a second time, and no other
    when = {path.name.split("-")[1]: int(path.name.split("-")[2]) for path in tmp_path.glob("begun-[ad]-*")}
    assert when["a"] < when["d"]


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    work = Played([], subject, small_grid("50%"), tmp_path, 1)
    with pytest.raises(InputError, match="dtp-edge\\[sweep\\]"):
        list(OnRay("auto", 1).run(work))
