"""How batches go through a network as the objective says, and how its failures are told."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import DtpEdgeError, InputError, first_line, users_line
from dtp_edge.graph.arguments import in_order
from dtp_edge.graph.part import Whole, inside
from dtp_edge.training.layout import arranged
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.base import Inputs, Objective
from dtp_edge.training.objectives.classification import Classification
from dtp_edge.training.runtime import device_of

__all__ = ["HINT", "Feed", "line_of", "telling"]

HINT = "docs/tasks.md says what an objective gets and returns."


@dataclass(frozen=True)
class Feed:
    """An objective at work: the forward of `order` names its inputs, `host` is what stands around that."""

    objective: Objective = field(default_factory=Classification)
    order: nn.Module | None = None
    host: Whole | None = None
    channels_last: bool = False

    def arguments(self, batch: Any) -> Inputs:
        """Return what the network is called with for a batch, by position unless a host takes keywords."""
        with telling("inputs", self.objective):
            found = self.objective.arguments(batch)
        if found.kwargs and self.host is None and self.order is not None:
            return Inputs(in_order(self.order, *found.args, **found.kwargs))
        return found

    def run(self, module: nn.Module, batch: Any, device: torch.device | None = None) -> Any:
        """Return what `module` makes of a batch; its inputs are moved to `device` first if one is named.

        Without, as in training, they are there already, and images are laid out as the recipe says.
        """
        found = self.arguments(batch)

        def ready(value: Any) -> Any:
            if device is not None:
                return value.to(device) if hasattr(value, "to") else value
            return arranged(value, self.channels_last) if isinstance(value, Tensor) else value

        args, named = (nests.mapped(ready, nest) for nest in (found.args, dict(found.kwargs)))
        return module(*args, **named)

    def around(self, part: nn.Module, whole: nn.Module | None = None) -> nn.Module:
        """Return what learns and is judged: `part` itself, or the host (or a copy of it) around it."""
        return part if self.host is None else self.host.put(part, whole)

    def inside(self, whole: nn.Module) -> nn.Module:
        """Return what is pruned of what learns."""
        return whole if self.host is None else inside(self.host.inside(whole))

    def part_inputs(self, whole: nn.Module, batch: Any) -> tuple[Any, ...]:
        """Return what the network that is pruned gets for a batch: with a host, what that hands on to it."""
        found = self.arguments(batch)
        if self.host is None:
            return found.args
        device = device_of(whole)
        args, named = (nests.moved(x, device) for x in (found.args, dict(found.kwargs)))
        return self.host.recorded(whole, args, named)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the objective's loss, a scalar; `InputError` with the user's line where it is none."""
        with telling("loss", self.objective):
            found = self.objective.loss(outputs, batch)
        if not isinstance(found, Tensor) or found.numel() != 1:
            what = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the loss is {what}, not one number",
                where=line_of(type(self.objective).loss),
                hint="Return the mean over the batch, a tensor with one element.",
            )
        return found.reshape(())

    def worth(self, outputs: Any, batch: Any) -> Tensor:
        """Return the loss that channels are scored by, of what is pruned in evaluation.

        A host around it is in training, for a detector has its losses there only.
        """
        if self.host is not None:
            with self.host.answering(outputs) as rest:
                outputs = self.run(rest, batch)
        with telling("worth", self.objective):
            return self.objective.worth(nests.in_float32(outputs), batch)


@contextmanager
def telling(what: str, owner: object) -> Iterator[None]:
    """Turn whatever the user's code raises in the block into an `InputError` with its file and line."""
    try:
        yield
    except (DtpEdgeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        name = getattr(owner, "name", "") or type(owner).__name__
        raise InputError(
            f"{what} of the objective {name} failed: {first_line(error, kind=True)}",
            where=users_line(error) or line_of(getattr(type(owner), what, None)),
            hint=HINT,
        ) from error


def line_of(function: Any) -> str | None:
    """Return `FILE, line N, in NAME` of where a function is written; None where that cannot be known."""
    with suppress(OSError, TypeError):
        file = str(inspect.getsourcefile(function))
        with suppress(ValueError):
            file = str(Path(file).relative_to(Path.cwd()))
        return f"{file}, line {inspect.getsourcelines(function)[1]}, in {function.__qualname__}"
    return None
