"""Cut one tensor along several dimensions.

numpy takes along an axis several times as fast as torch's index_select does, since it asks the system for
large pages, so ordinary tensors in main memory go that way; they become torch tensors without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

_NUMPY_DTYPES = {
    *(torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
}


def cut_tensor(tensor: torch.Tensor, indices: Sequence[np.ndarray | None]) -> torch.Tensor:
    """Return a copy of `tensor` with the indices given for each dimension (None: all of them).

    A parameter becomes a parameter that trains if it did.
    """
    value = tensor.detach()
    chosen = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    value = _taken(value, chosen) if _in_numpy(value) else _selected(value, chosen)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=tensor.requires_grad)
    return value


def _in_numpy(value: torch.Tensor) -> bool:
    return (
        type(value) is torch.Tensor
        and value.device.type == "cpu"
        and value.layout is torch.strided
        and value.dtype in _NUMPY_DTYPES
        and value.dim() > 0
    )


def _taken(value: torch.Tensor, chosen: Sequence[tuple[int, np.ndarray]]) -> torch.Tensor:
    array = value.numpy()
    for dim, index in chosen:
        array = array.take(index, axis=dim)
    return torch.from_numpy(array if chosen else array.copy())


def _selected(value: torch.Tensor, chosen: Sequence[tuple[int, np.ndarray]]) -> torch.Tensor:
    for dim, index in chosen:
        value = value.index_select(dim, torch.as_tensor(index, device=value.device))
    return value if chosen else value.clone()
