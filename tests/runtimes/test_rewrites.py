"""Each rewrite computes the same function, in float64 with random weights, and finds what it is for."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.archive import load_pruned, save_pruned
from dtp_edge.graph import trace_network
from dtp_edge.proof.equality import convert_literals
from dtp_edge.runtimes.advice import advice_for
from dtp_edge.runtimes.formats.registry import FORMATS
from dtp_edge.runtimes.formats.stored_network import stored_network
from dtp_edge.runtimes.rewrites import all_rewrites, chosen_rewrites, rewrites_of
from dtp_edge.surgery import compact


class Norms(nn.Module):
    """Norms behind a convolution with and without bias, behind a shared one, and behind none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8, affine=i != 1) for i in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](self.a(x)).relu()
        y = self.norms[1](self.b(x))
        z = self.b(y)
        return self.norms[2](z) + self.norms[3](z + 1)


class Lines(nn.Module):
    """Sound: pools that overlap, are padded and are not; a line that others read; a mean at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(2, 8, 9, 4)
        self.b = nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False)
        self.norm, self.pool = nn.BatchNorm1d(8), nn.MaxPool1d(4)
        self.wide = nn.MaxPool1d(3, 2, 1, ceil_mode=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.norm(self.a(x)).relu())
        y = self.wide(self.b(x).sigmoid())
        return self.head(y.mean(2)) + x.sum((1, 2)).unsqueeze(1)


class Splits(nn.Module):
    """Splits by sizes, in the middle and from the end, parts that nobody reads, and one that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 10, 1), nn.Conv2d(7, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, y, z = torch.split(self.a(x), [2, 7, 1], dim=1)
        parts = torch.split(self.b(y), [1, 3], dim=-1)
        return parts[-1].sum() + z + sum(p.mean() for p in x.split(1, dim=2))


class Means(nn.Module):
    """Means over pictures with and without their rank, over other dimensions, and of what is no picture."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        y = self.head(x.mean((2, 3))) + self.head(torch.cat([x, x], 2).mean((-1, -2)))
        kept = x.mean((2, 3), keepdim=True).flatten(1)
        return y + self.head(kept) + self.head(x.flatten(2).mean(2)) + x.mean((1, 2)).mean()


class Shuffles(nn.Module):
    """Channels in another order, some twice, behind a convolution, a cat and a split; rows, which stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(5, 4, 1)
        for name, index in (("i", [4, 0, 2, 2, 5]), ("j", [9, 3, 1, 0]), ("k", [1, 0]), ("rows", [2, 0])):
            self.register_buffer(name, torch.tensor(index))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        y = self.b(torch.index_select(x, 1, self.i))
        z = torch.index_select(torch.cat([y, x], 1), 1, self.j)
        left, _ = torch.split(z, [2, 2], dim=1)
        found = torch.index_select(left, 1, self.k).sum() + torch.index_select(y, 2, self.rows).mean()
        return found + torch.index_select(x.flatten(2), 1, self.k).mean()


SUBJECTS = {
    "gathers_as_products": (Shuffles, (1, 3, 7, 6), 3),
    "splits_as_slices": (Splits, (1, 3, 6, 4), 2),
    "means_keep_rank": (Means, (1, 3, 9, 9), 2),
    "folded_norms": (Norms, (1, 3, 10, 10), 2),
    "lines_as_pictures": (Lines, (1, 2, 300), 3),
}


def stored(model: nn.Module, shape: tuple[int, ...], folder: Path):
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.3)
    traced = trace_network(model.eval(), (torch.randn(shape),))
    keep = np.ones(traced.n_atoms, dtype=bool)
    save_pruned(folder, compact(traced, keep), traced, keep, {})
    return load_pruned(folder).eval()


def test_every_rewrite_has_a_subject_and_a_format() -> None:
    assert {one.name for one in all_rewrites()} == set(SUBJECTS)
    for one in all_rewrites():
        assert set(one.formats) <= set(FORMATS)
        assert all(one in rewrites_of(name) for name in one.formats)


@pytest.mark.parametrize("name", sorted(SUBJECTS))
def test_a_rewrite_changes_no_function(name: str, tmp_path: Path) -> None:
    build, shape, places = SUBJECTS[name]
    module = stored(build(), shape, tmp_path).double()
    convert_literals(module, torch.float64)
    before = copy.deepcopy(module)
    (one,) = [r for r in all_rewrites() if r.name == name]
    assert one.apply(module) == places
    x = torch.randn(2, *shape[1:], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x), before(x), rtol=1e-12, atol=1e-12)
    assert one.apply(module) == 0


def test_a_user_says_which_rewrites_are_used(tmp_path: Path) -> None:
    stored(Splits(), (1, 3, 6, 4), tmp_path)
    port = {"name": "x", "shape": [1, 3, 6, 4], "dtype": "float32"}
    job = {"pruned": str(tmp_path), "format": "pte", "inputs": [port], "rewrites": ["splits_as_slices"]}
    module, _ = stored_network(job)
    assert job["rewritten"] == {"splits_as_slices": 2}
    job["rewrites"] = []
    plain, _ = stored_network(job)
    assert job["rewritten"] == {}
    assert len(list(plain.graph.nodes)) != len(list(module.graph.nodes))
    assert chosen_rewrites("default") is None
    assert chosen_rewrites("all") == tuple(one.name for one in all_rewrites())
    assert chosen_rewrites("none") == ()
    twice = "folded_norms, means_keep_rank,folded_norms"
    assert chosen_rewrites(twice) == ("folded_norms", "means_keep_rank")


def test_what_to_change_names_the_rewrite_that_was_left_out() -> None:
    names = tuple(one.name for one in all_rewrites())
    assert "name splits_as_slices" in advice_for("pte", "aten::split_with_sizes_copy.out", ())
    assert "name means_keep_rank" in advice_for("pte", "aten::mean", ("splits_as_slices",))
    assert advice_for("pte", "aten::mean", names) == ""
    assert advice_for("pte", "aten::mean") == ""  # of a file that others made nothing is known
    assert "name gathers_as_products" in advice_for("tflite", "GATHER_ND", ("folded_norms",))
    assert "hard swish" in advice_for("tflite", "HARD_SWISH", ())
    assert advice_for("ncnn", "HARD_SWISH", ()) == ""
