"""Ultralytics' layout: what is read, and every fault with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_yolo import pictures

from dtp_edge.errors import InputError
from dtp_edge.training.data.yolo_layout import label_file, read_layout

pytest.importorskip("yaml")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "set", {"train": 6, "val": 2})


def test_what_is_there(data: Path) -> None:
    found = read_layout(data, 1)
    assert found.names == ["disc", "square", "bar"]
    assert {split: len(files) for split, files in found.splits.items()} == {"train": 6, "val": 2}
    assert found.boxes == 8
    assert label_file(Path("/a/images/images/x.b.png")) == Path("/a/images/labels/x.b.txt")


def test_a_picture_without_labels_has_none(data: Path) -> None:
    label_file(read_layout(data, 1).splits["train"][0]).unlink()
    assert read_layout(data, 2).boxes == 7


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("3 0.5 0.5 0.1 0.1", r"001.txt:2: the class 3 is none of the 3 names"),
        ("1.5 0.5 0.5 0.1 0.1", "the class 1.5 is none"),
        ("0 0.5 0.5 0.1", r"001.txt:2: is '0 0.5 0.5 0.1', not a class"),
        ("0 0.5 0.5 0 0.1", "the box is empty"),
        ("0 32 32 10 10", "reaches out of its picture"),
        ("0 0.5 0.5 nan 0.1", "the box is empty"),
        ("cat 0.5 0.5 0.1 0.1", "not a class"),
    ],
)
def test_a_wrong_line_is_named(data: Path, line: str, words: str) -> None:
    file = data.parent / "labels/train/001.txt"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(InputError, match=words):
        read_layout(data, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\nval: images/val\nnames: [a", "is not a yaml file"),
        ("- a\n- b\n", "holds no names and folders"),
        ("names: [a]\nval: images/val\n", "names no train"),
        ("names: {1: a}\ntrain: images/train\n", "names is no list"),
        ("names: [a]\ntrain: images/none\n", "there is no folder"),
        ("names: [a]\ntrain: 7\n", "is not the name of a folder"),
        ("names: [a]\ntrain: labels/train\n", "holds no pictures"),
        ("names: [!!python/object/apply:os.getcwd []]\ntrain: images/train\n", "is not a yaml file"),
    ],
)
def test_a_wrong_yaml_is_told(data: Path, text: str, words: str) -> None:
    data.write_text(text)
    with pytest.raises(InputError, match=words):
        read_layout(data, 1)


def test_a_broken_picture_is_named(data: Path) -> None:
    (data.parent / "images/val/000.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"val/000.png"):
        read_layout(data, 2)
