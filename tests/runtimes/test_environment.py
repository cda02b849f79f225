"""Environments of runtimes: made with pinned versions or not there, and found without being named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dtp_edge.errors import InputError
from dtp_edge.runtimes.environment import (
    EnvironmentFault,
    environment_folder,
    interpreter,
    is_made,
    make_environment,
    unready,
)
from dtp_edge.runtimes.registry import RUNTIMES, Runtime


def wheel(folder: Path, name: str, *, needs: str = "") -> str:
    """Write the smallest wheel there is."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    about += f"Requires-Dist: {needs}\n" if needs else ""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "x = 1\n")
        file.writestr(f"{name}-1.0.dist-info/METADATA", about)
        file.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return str(path)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DTP_EDGE_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    def runtime(pins: tuple[str, ...], bare: tuple[str, ...] = ()) -> Runtime:
        one = Runtime("fake", "standin", "", "a test", pins=pins, bare_pins=bare)
        monkeypatch.setitem(RUNTIMES, "fake", one)
        return one

    return runtime


def test_an_environment_is_made_once_and_found(at, tmp_path: Path) -> None:
    runtime = at((wheel(tmp_path, "standin"),), (wheel(tmp_path, "needy", needs="not-there>=9"),))
    assert "dtp-edge env fake" in unready("fake")
    said: list[str] = []
    made = make_environment("fake", say=said.append)
    assert made.bytes > 1_000_000
    assert made.seconds > 0
    assert any("standin-1.0" in text for text in said)
    assert interpreter(runtime) == str(made.python)
    assert unready("fake") == ""
    assert make_environment("fake").seconds == 0


def test_what_cannot_be_made_is_taken_away(at, tmp_path: Path) -> None:
    runtime = at((wheel(tmp_path, "needy", needs="not-there>=9"),))
    with pytest.raises(EnvironmentFault, match=r"not-there(.|\n)*Nothing was left"):
        make_environment("fake")
    assert not environment_folder("fake").exists()
    assert not is_made("fake")
    assert interpreter(runtime) != str(environment_folder("fake") / "bin/python")
    with pytest.raises(InputError, match=r"no environment is known for 'executorsh'(.|\n)*executorch"):
        make_environment("executorsh")


def test_a_making_that_hangs_is_stopped(at, tmp_path: Path) -> None:
    at((wheel(tmp_path, "standin"),))
    with pytest.raises(EnvironmentFault, match="took more than"):
        make_environment("fake", timeout_s=0.05)
    assert not environment_folder("fake").exists()


def test_a_relative_interpreter_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = RUNTIMES["openvino"]
    assert interpreter(runtime, {"openvino": "made/bin/python"}) == str(tmp_path / "made" / "bin" / "python")
    assert interpreter(runtime, {"openvino": "python3.11"}) == "python3.11"
