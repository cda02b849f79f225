"""Calls and networks made from the examples of the operators' specifications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.ops.spec import Example, T, specifications

# what they hold is drawn anew, or nothing: only its shape can be checked
RANDOM = {"rand", "randn", "rand_like", "randn_like", "bernoulli", "empty", "empty_like", "new_empty"}


def examples() -> list[tuple[str, int]]:
    """Return (name, number of the example) for every operator with a label rule."""
    found = []
    for name, spec in specifications().items():
        if spec.label is not None and hasattr(torch.ops.aten, name):
            found += [(name, i) for i in range(len(spec.examples)) if overload(name, spec.examples[i])]
    return found


def tensor(t: T, dtype: torch.dtype = torch.float64) -> Tensor:
    words = t.kind.split()
    kind = next((w for w in words if w not in ("constant", "float32", "parameter")), "float")
    dtype = torch.float32 if "float32" in words else dtype
    if kind == "int32":
        return torch.randint(0, t.high, t.shape, dtype=torch.int32)
    if kind == "index":
        return torch.randint(0, t.high, t.shape)
    if kind == "bool":
        return torch.rand(t.shape) > 0.4
    if kind in ("unit", "positive"):
        return torch.rand(t.shape, dtype=dtype) * 0.9 + 0.05
    return torch.rand(t.shape, dtype=dtype) + 1.5 if kind == "large" else torch.randn(t.shape, dtype=dtype)


def filled(value: Any, make: Any) -> Any:
    """Replace every `T` in nested arguments by what `make` returns for it."""
    if isinstance(value, T):
        return make(value)
    if isinstance(value, (list, tuple)):
        return [filled(v, make) for v in value]
    return value


def overload(name: str, use: Example) -> Any:
    """Return the first overload of an operator that takes the arguments of an example, None if none does."""
    packet = getattr(torch.ops.aten, name)
    for found in (getattr(packet, o) for o in packet.overloads()):
        if any(a.is_out or "Dimname" in str(a.type) for a in found._schema.arguments):
            continue
        try:
            torch.manual_seed(0)
            found(*filled(use.args, tensor), **use.kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError):
            continue
        return found
    return None


class Around(nn.Module):
    """Operators with a linear layer before every activation and behind every result, one output each.

    Every index of every dimension of every activation is a channel of some layer.
    """

    def __init__(self, uses: list[tuple[str, int]]) -> None:
        super().__init__()
        torch.manual_seed(len(uses))
        self.uses = [(overload(n, e), e) for n, e in ((n, specifications()[n].examples[i]) for n, i in uses)]
        self.makers = nn.ModuleList()
        self.held = nn.ParameterList()
        self.readers = nn.ModuleList()
        for function, use in self.uses:
            filled(use.args, self._prepare)
            outputs = function(*filled(use.args, lambda t: tensor(t, torch.float32)), **use.kwargs)
            self.readers.append(
                nn.ModuleList(nn.Linear(max(1, o.numel()), 3) for o in _tensors(outputs) if o.numel())
            )

    def _prepare(self, t: T) -> None:
        if t.kind in ("float", "unit", "large", "bool"):
            self.makers.append(nn.Linear(5, int(torch.Size(t.shape).numel())))
        elif "parameter" in t.kind:
            self.held.append(nn.Parameter(tensor(t, torch.float32)))
        else:
            self.register_buffer(f"constant_{len(self._buffers)}", tensor(t, torch.float32))

    def forward(self, x: Tensor) -> list[Tensor]:
        makers, held = iter(self.makers), iter(self.held)
        constants = iter(self._buffers.values())

        def make(t: T) -> Any:
            if "parameter" in t.kind:
                return next(held)
            if t.kind not in ("float", "unit", "large", "bool"):
                return next(constants)
            value = next(makers)(x).reshape(t.shape)
            if t.kind == "bool":
                return value > 0
            if t.kind == "unit":
                return torch.sigmoid(value) * 0.9 + 0.05
            return value.abs() + 1.5 if t.kind == "large" else value

        results = []
        for (function, use), readers in zip(self.uses, self.readers, strict=True):
            outputs = [o for o in _tensors(function(*filled(use.args, make), **use.kwargs)) if o.numel()]
            for out, reader in zip(outputs, readers, strict=True):
                results.append(reader(out.to(x.dtype).reshape(1, -1)))
        return results


def _tensors(outputs: Any) -> Iterator[Tensor]:
    for part in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
        if isinstance(part, Tensor):
            yield part
