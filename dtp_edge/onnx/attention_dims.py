"""Attention with more or fewer than four dimensions, for the ONNX exporter, which translates four only.

Windowed networks keep windows in a dimension of their own: [batch, heads, windows, tokens, width]; attention
without heads has [batch, tokens, width].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
_ATTENTION = (
    torch.nn.functional.scaled_dot_product_attention,
    aten.scaled_dot_product_attention,
    aten.scaled_dot_product_attention.default,
)


class FlatAttention(TorchFunctionMode):
    """While this is entered, attention over `[..., tokens, width]` runs on four dimensions."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _ATTENTION and len(args) >= 3 and args[0].dim() != 4:
            return _attention(func, args, kwargs)
        return func(*args, **kwargs)


def _attention(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    query, key, value, *rest = args
    missing = 4 - query.dim()
    leading = query.shape[:-3]
    mask = rest[0] if rest else kwargs.get("attn_mask")
    if mask is not None and mask.dim() > 2 and missing > 0:
        mask = mask.unsqueeze(-3)
    elif mask is not None and mask.dim() > 2:
        mask = mask.expand(*query.shape[:-1], key.shape[-2]).flatten(0, -4)
    if rest:
        rest[0] = mask
    elif mask is not None:
        kwargs["attn_mask"] = mask
    if missing > 0:
        one = [1] * missing
        lone = (x.reshape(*x.shape[:-2], *one, *x.shape[-2:]) for x in (query, key, value))
        found = func(*lone, *rest, **kwargs)
        return found.reshape(*query.shape[:-2], *found.shape[-2:])
    flat = (x.expand(*leading, *x.shape[-3:]).flatten(0, -4) for x in (query, key, value))
    return func(*flat, *rest, **kwargs).unflatten(0, leading)
