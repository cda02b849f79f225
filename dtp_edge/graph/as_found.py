"""Run or trace the user's module, and leave it as it was found.

A forward may cache tensors on its module (anchors, position tables, the last features) or write to its
buffers; when torch.export runs it, what it caches are tensors without numbers, and the module could never
run or be copied again.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

# torch.export and torch.onnx.export change torch itself while they run: one thread at a time
TRACING = threading.RLock()

_DEEPEST, _LONGEST = 4, 10_000  # a cache lies nearer and is shorter than what else a module may refer to


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode and give each its own mode back afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that only inference has
    model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes:
            module.training = mode


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Give every submodule its own mode, attributes and buffer values back afterwards."""
    attributes = [(m, dict(m.__dict__)) for m in model.modules()]
    inner = {id(v): (v, _content(v)) for _, own in attributes for v in _containers(own)}
    buffers = [(b, b.detach().clone()) for b in model.buffers() if not b.is_meta]
    try:
        with evaluating(model):
            yield
    finally:
        for module, own in attributes:
            module.__dict__.clear()
            module.__dict__.update(own)
        for container, content in inner.values():
            _put_back(container, content)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _containers(own: dict[str, Any]) -> Iterator[Any]:
    """Yield the dicts, lists, sets and plain objects below a module's attributes, tables of tensors too."""
    seen: set[int] = set()
    todo = [(value, 0) for value in own.values()]
    while todo:
        value, depth = todo.pop()
        parts = parts_of(value)
        if parts is None or id(value) in seen or depth > _DEEPEST or len(parts) > _LONGEST:
            continue
        seen.add(id(value))
        if not isinstance(value, (tuple, frozenset)):
            yield value
        todo += [(part, depth + 1) for part in (parts.values() if isinstance(parts, dict) else parts)]


def parts_of(value: Any) -> Any:
    """Return what a container or a plain object holds (a dict or an iterable), None for anything else."""
    if isinstance(value, (dict, list, set, frozenset, tuple)):
        return value
    if isinstance(value, (nn.Module, torch.Tensor, type, ModuleType)) or callable(value):
        return None
    return getattr(value, "__dict__", None)


def _content(container: Any) -> Any:
    return copy.copy(container if isinstance(container, (dict, list, set)) else vars(container))


def _put_back(container: Any, content: Any) -> None:
    container = container if isinstance(container, (dict, list, set)) else vars(container)
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)
