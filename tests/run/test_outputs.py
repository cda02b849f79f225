"""A run's folder is finished or it is not; nothing in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtp_edge.errors import InputError
from dtp_edge.run.outputs import first_process, is_finished, refuse_finished, staged


def test_files_appear_together(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with staged(out) as stage:
        (stage / "report.json").write_text("{}")
        (stage / "model.onnx").write_bytes(b"x")
        assert not is_finished(out)
        assert not (out / "model.onnx").exists()
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx", "report.json"]


def test_a_failure_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def fail_late() -> None:
        with staged(out) as stage:
            (stage / "report.json").write_text("{}")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        fail_late()
    assert not out.exists()


def test_a_failed_rerun_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(RuntimeError), staged(tmp_path):
        raise RuntimeError("boom")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_finished_folder_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="finished run"):
        refuse_finished(tmp_path, force=False)
    refuse_finished(tmp_path, force=True)


@pytest.mark.parametrize(("rank", "first"), [(None, True), ("0", True), ("1", False), ("10", False)])
def test_the_first_of_several_processes_speaks(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, first: bool
) -> None:
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    assert first_process() is first
