"""The cache folder: what the user says, else what the system says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dtp_edge.measure.host import cache_folder
from dtp_edge.measure.machine import machine_facts, ram_bytes


def test_the_user_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTP_EDGE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="each system has a place of its own")
def test_the_same_place_on_linux_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DTP_EDGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dtp_edge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "dtp_edge"


def test_a_machine_that_linux_does_not_describe_still_has_a_clock_and_memory(monkeypatch) -> None:
    monkeypatch.setattr("dtp_edge.measure.machine._cpu_info", dict)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=600.0, max=1500.0))
    facts = machine_facts()
    assert facts["clock_mhz"] == 1500.0
    assert facts["ram_bytes"] == ram_bytes() > 1 << 28
