"""State on disk: every generator and every optimiser goes on as if nothing had happened; damage is named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.training.checkpoint import (
    PhaseState,
    Store,
    load_optimizer,
    optimizer_tensors,
    rng_tensors,
    set_rng,
)

RUN = {"budget": {"latency": "50%"}, "seed": 0}


def draws() -> list[float]:
    return [
        torch.randn(()).item(), np.random.normal(), np.random.random(), random.gauss(0, 1), random.random()
    ]  # fmt: skip


@pytest.mark.parametrize("odd", [False, True])
def test_generators_go_on_where_they_were(odd: bool, tmp_path: Path) -> None:
    """After an odd number of normal draws numpy and Python hold a second one back: that is stored too."""
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    if odd:
        np.random.normal()
        random.gauss(0, 1)
    store = Store(tmp_path, RUN, resume=False)
    store.save("masks", PhaseState(1, False, rng_tensors()))
    wanted = draws() + draws()
    np.random.seed(9)
    random.seed(9)
    torch.manual_seed(9)
    state = store.load("masks")
    assert state is not None
    set_rng(state.tensors)
    assert draws() + draws() == wanted


OPTIMISERS: list[Callable[[nn.Module], torch.optim.Optimizer]] = [
    lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
    lambda m: torch.optim.AdamW(m.parameters(), lr=0.1),
]


@pytest.mark.parametrize("make", OPTIMISERS)
def test_an_optimiser_goes_on_bit_for_bit(make: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 2), torch.randn(8, 4)
    twin = nn.Linear(4, 2)

    def steps(module: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            module(x).square().mean().backward()
            optimiser.step()

    optimiser = make(model)
    steps(model, optimiser, 3)
    tensors, scalars = optimizer_tensors(optimiser)
    store = Store(tmp_path, RUN, resume=False)
    store.save("tune", PhaseState(3, False, tensors, scalars=scalars))
    twin.load_state_dict(model.state_dict())
    state = store.load("tune")
    assert state is not None
    other = make(twin)
    load_optimizer(other, {**state.tensors, **state.scalars})
    before = model.weight.detach().clone()
    steps(model, optimiser, 3)
    steps(twin, other, 3)
    assert torch.equal(model.weight, twin.weight)
    assert not torch.equal(model.weight, before)


def test_what_is_saved_comes_back_whole_and_shared_tensors_too(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    state = PhaseState(
        7, True, {"a": shared, "tied": shared, "view": shared.T}, [{"loss": 0.5}], 0.9, 1.5, {"step": 3}
    )
    Store(tmp_path, RUN, resume=False).save("tune", state)
    found = Store(tmp_path, RUN, resume=True).load("tune")
    assert found is not None
    assert (found.step, found.done, found.rows, found.best) == (7, True, [{"loss": 0.5}], 0.9)
    assert found.scalars == {"step": 3}
    assert all(torch.equal(found.tensors[k], v) for k, v in state.tensors.items())
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["run.json", "tune.safetensors"]  # nothing beside


def test_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    Store(tmp_path, RUN, resume=False)
    with pytest.raises(InputError, match=r"budget\.latency was '50%', is '40%'"):
        Store(tmp_path, {**RUN, "budget": {"latency": "40%"}}, resume=True)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: is not valid"):
        Store(tmp_path, RUN, resume=True)


@pytest.mark.parametrize("damage", ["cut", "noise", "format"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    store = Store(tmp_path, RUN, resume=False)
    store.save("masks", PhaseState(1, False, {"a": torch.ones(50)}))
    path = tmp_path / "masks.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "noise":
        path.write_bytes(b"\xff" * 64)
    else:
        save_file({"a": torch.ones(2)}, path, metadata={"format": "another", "state": json.dumps({})})
    with pytest.raises(InputError, match="cannot be read") as error:
        store.load("masks")
    assert str(path) in str(error.value)
    assert store.load("tune") is None


def test_a_process_that_does_not_write_leaves_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "other", RUN, resume=False, write=False)
    store.save("masks", PhaseState(1, False, {"a": torch.ones(2)}))
    assert not (tmp_path / "other").exists()
