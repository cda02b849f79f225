"""Squeezes of dimensions that are not 1, for the ONNX exporter: torch skips them, ONNX refuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
_SQUEEZES = (
    torch.squeeze,
    torch.Tensor.squeeze,
    aten.squeeze.dim,
    aten.squeeze.dims,
)


class OnlyOnes(TorchFunctionMode):
    """While this is entered, `squeeze` is only asked for dimensions that it removes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in _SQUEEZES or not args or (len(args) == 1 and "dim" not in kwargs):
            return func(*args, **kwargs)
        x, *named = args
        asked = named[0] if len(named) == 1 else named or kwargs["dim"]
        dims = [asked] if isinstance(asked, int) else list(asked)
        ones = [d for d in dims if not isinstance(x.shape[d], int) or x.shape[d] == 1]
        if ones and len(ones) == len(dims):
            return func(*args, **kwargs)
        return x.squeeze(tuple(ones)) if ones else x
