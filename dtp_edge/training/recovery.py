"""What a phase goes back to when its loss is no longer finite: its last good state, at half the rate.

Good is the state at the end of an epoch if everything in it is finite. A state from which training has
diverged is not trusted again: the next time the phase starts anew. All of it is a function of the steps
taken, so that a run that was killed and resumed goes back at the same step to the same state.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.training.checkpoint import load_optimizer, optimizer_tensors, rng_tensors, set_rng
from dtp_edge.training.ema import Average

TIMES = 3  # that a phase goes back before it gives up
State = dict[str, Any]  # named tensors, and numbers of the optimiser


@dataclass
class Parts:
    """What changes in a phase from step to step, to be read and put back as one."""

    module: nn.Module
    optimizer: Any
    average: Average | None

    def read(self) -> State:
        """Names to the tensors themselves, and to the optimiser's and the generators' numbers."""
        state: State = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors, numbers = optimizer_tensors(self.optimizer)
        state |= tensors | numbers | rng_tensors()
        if self.average is not None:
            state |= {f"ema.{k}": t for k, t in self.average.values.items()}
        return state

    def put(self, state: Mapping[str, Any]) -> None:
        """Put back what `read` gave; `state` shares nothing with the parts afterwards."""
        device = next((t.device for t in self.module.parameters()), torch.device("cpu"))
        self.module.load_state_dict(named("module.", state))
        load_optimizer(self.optimizer, {k: _copied(v) for k, v in state.items()})
        if self.average is not None:
            self.average.values = {k: t.to(device, copy=True) for k, t in named("ema.", state).items()}
        set_rng(state)


class Recovery:
    """The last good state of a phase, and where and how often it went back (`backs`: from step, to step)."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.backs: list[tuple[int, int]] = []
        self._start = self._good = (0, _snapshot(parts))
        self._finite = _finite_names(parts.module)  # a buffer of -inf or NaN from the beginning is no harm

    @property
    def rate(self) -> float:
        """What learning rates are multiplied by."""
        return 0.5 ** len(self.backs)

    def told(self, phase: str, learning_rate: float) -> list[str]:
        """A sentence for every time that the phase went back."""
        return [
            f"Training diverged in phase {phase} at step {step}: it went back to step {to} and on "
            f"with half the learning rate ({learning_rate * 0.5 ** (i + 1):.2g})."
            for i, (step, to) in enumerate(self.backs)
        ]

    def healthy(self) -> bool:
        """Whether all that was finite in the module when the phase began still is."""
        return self._finite <= _finite_names(self.parts.module)

    def keep(self, step: int) -> None:
        """Take the present state for good."""
        self._good = (step, _snapshot(self.parts))

    def go_back(self, step: int) -> int | None:
        """Put a good state back and return its step, or None where that is of no use (any more)."""
        if len(self.backs) == TIMES or step == 0:
            return None  # before the first step there is no rate that could be too high
        if step == self._good[0] or any(to == self._good[0] for _, to in self.backs):
            self._good = self._start
        to, state = self._good
        self.parts.put(state)
        self.backs.append((step, to))
        return to

    def to_store(self, step: int) -> tuple[int, State]:
        """The good state as a checkpoint of `step` holds it: its step, and what is not known without it."""
        good, state = self._good
        return good, {} if good in (0, step) else {f"good.{k}": v for k, v in state.items()}

    def restore(self, good: int, step: int, stored: Mapping[str, Any], backs: list[tuple[int, int]]) -> None:
        """Put back what `to_store` gave, after the parts themselves."""
        self.backs = backs
        if good == step:
            self.keep(step)
        elif good:
            self._good = (good, named("good.", stored))


def named(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries whose name begins with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _snapshot(parts: Parts) -> State:
    return {k: _copied(v) for k, v in parts.read().items()}


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)


def _finite_names(module: nn.Module) -> set[str]:
    state = module.state_dict()
    return {k for k, v in state.items() if isinstance(v, Tensor) and bool(torch.isfinite(v).all())}
