"""Cells in processes: none lost, none twice, whatever happens to a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_sweep import Played, small_grid, subject
from helpers.waiting import wait_for

from dtp_edge.sweeps import processes
from dtp_edge.sweeps.grid import Cell
from dtp_edge.sweeps.processes import Processes
from dtp_edge.transport import Budget

ROOT = Path(__file__).parents[2]


def work(folder: Path, acts: dict[str, str], parents: dict[str, str] | None = None) -> Played:
    found = [
        Cell(name, "a", i, Budget(latency="50%"), parent=(parents or {}).get(name))
        for i, name in enumerate("abcd")
    ]
    return Played(found, subject, small_grid("50%"), folder, 1, None, acts)


def test_a_process_that_dies_loses_no_cell_and_repeats_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TRIES", 2)
    played = work(tmp_path, {"b": "dies once", "c": "dies always"}, parents={"d": "a"})
    ended = [one for one in Processes(2).run(played) if one is not None]
    assert sorted(name for name, _ in ended) == ["a", "b", "c", "d"]
    found = dict(ended)
    assert found["b"]["state"] == found["a"]["state"] == "done"
    assert found["c"]["state"] == "failed"
    assert found["c"]["reason"] == "its process died 2 times"
    begun = [p.name.split("-")[1] for p in tmp_path.glob("begun-*")]
    assert {name: begun.count(name) for name in "abcd"} == {"a": 1, "b": 2, "c": 2, "d": 1}
    assert os.getpid() not in {found[name]["pid"] for name in "abd"}
    when = {p.name.split("-")[1]: int(p.name.split("-")[2]) for p in tmp_path.glob("begun-[ad]-*")}
    assert when["a"] < when["d"]


DRIVER = """
import sys; sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from helpers.small_sweep import Played, small_grid, subject
from dtp_edge.sweeps.grid import Cell
from dtp_edge.sweeps.processes import Processes
from dtp_edge.transport import Budget
if __name__ == "__main__":
    cells = [Cell("a", "a", 0, Budget(latency="50%"))]
    work = Played(cells, subject, small_grid("50%"), Path({folder!r}), 1, None, {{"a": "waits"}})
    for _ in Processes(1).run(work): pass
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc, which is Linux's")
def test_a_driver_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(tmp_path)))
    driver = subprocess.Popen([sys.executable, str(script)])
    wait_for(lambda: any(tmp_path.glob("begun-a-*")) and bool(next(tmp_path.glob("begun-a-*")).read_text()))
    worker = int(next(tmp_path.glob("begun-a-*")).read_text())
    assert is_alive(worker)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not is_alive(worker))
