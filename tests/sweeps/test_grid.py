"""The grid and the order of its cells; a grid in a file."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from dtp_edge.errors import InputError
from dtp_edge.sweeps.grid import Cell, Grid, coarse_to_fine, in_order
from dtp_edge.sweeps.grid_file import read_grid
from dtp_edge.training import Recipe
from dtp_edge.transport import Budget


def cells(*tightness: float, device: str = "a") -> list[Cell]:
    return [
        Cell(f"{device}-{t}", device, i, Budget(latency=f"{100 * t}%"), tightness=t)
        for i, t in enumerate(tightness)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 12])
def test_any_beginning_covers_the_line(count: int) -> None:
    order = coarse_to_fine(count)
    assert sorted(order) == list(range(count))
    gaps = []
    for n in range(2, count + 1):
        seen = sorted(order[:n])
        assert seen[0] == 0
        assert seen[-1] == count - 1
        gaps.append(max(b - a for a, b in itertools.pairwise(seen)))
    assert gaps == sorted(gaps, reverse=True)


def test_every_device_gets_its_ends_before_any_gets_its_middle() -> None:
    found = [c.id for c in in_order([*cells(0.3, 0.7, 0.5), *cells(0.7, 0.5, 0.3, device="b")], warm=False)]
    assert found == ["a-0.7", "b-0.7", "a-0.3", "b-0.3", "a-0.5", "b-0.5"]


def test_a_warm_start_begins_with_the_nearest_looser_cell_that_came_before() -> None:
    found = {c.id: c.parent for c in in_order(cells(0.8, 0.6, 0.4, 0.2), warm=True)}
    assert found == {"a-0.8": None, "a-0.2": "a-0.8", "a-0.6": "a-0.8", "a-0.4": "a-0.6"}
    assert all(cell.parent is None for cell in in_order(cells(0.8, 0.6), warm=False))


def test_recipes_part_lines() -> None:
    long = [replace(cell, recipe="long", id=f"{cell.id}-long") for cell in cells(0.8, 0.6)]
    found = {c.id: c.parent for c in in_order([*cells(0.8, 0.6), *long], warm=True)}
    assert found["a-0.6"] == "a-0.8"
    assert found["a-0.6-long"] == "a-0.8-long"


def test_a_cell_has_a_name_of_its_own_and_its_own_recipe() -> None:
    budgets = (Budget(latency="70%"), Budget(latency="70%", flash="1MiB"), Budget(latency=7.0))
    grid = Grid(("a", "b"), budgets, {"short": {"epochs": 5}, "long": {"epochs": 10, "distill": 0.9}})
    found = grid.cells()
    assert len({cell.id for cell in found}) == len(found) == 12
    assert all(
        set(cell.id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        for cell in found
    )
    recipe = grid.recipe(next(c for c in found if c.recipe == "long"), Recipe(base_epochs=3, mask_epochs=1))
    assert recipe is not None
    assert (recipe.base_epochs, recipe.mask_epochs, recipe.tune_epochs, recipe.distill) == (3, 4, 6, 0.9)


def test_what_a_grid_refuses() -> None:
    budget = Budget(latency="70%")
    with pytest.raises(InputError, match="given twice"):
        Grid(("a", "a"), (budget,), {"usual": {}})
    with pytest.raises(InputError, match="no device"):
        Grid((), (budget,), {"usual": {}})
    wrong = Grid(("a",), (budget,), {"odd": {"epoch": 3}})
    with pytest.raises(InputError, match="epoch"):
        wrong.recipe(wrong.cells()[0], Recipe())


def test_a_grid_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'devices = ["a", "b"]\n[[budgets]]\nlatency = "70%"\n[[budgets]]\nlatency = 5.0\nflash = "1MiB"\n'
        "[recipes.long]\nepochs = 20\n"
    )
    found = read_grid(path)
    assert found["devices"] == ["a", "b"]
    assert [Budget(**one).latency for one in found["budgets"]] == ["70%", 5.0]
    assert found["recipes"] == {"long": {"epochs": 20}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devices = [", "valid TOML"),
        ("device = ['a']", "device"),
        ("devices = [3]", "3"),
        ("[[budgets]]\nspeed = 3", "speed"),
        ("[recipes.'a b']\nepochs = 1", "a b"),
    ],
)
def test_a_file_that_is_no_grid(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_grid(path)
