"""Cut tensors along several dimensions, quickly.

New memory costs more than the copying: the system hands it out page by page. So the compact tensors of a
network in main memory lie side by side in one block, for which numpy asks for large pages, and what is cut
along two dimensions goes through a small buffer that stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

Indices = Sequence[np.ndarray | None]  # kept indices of each dimension; None: all of them

_NUMPY_DTYPES = {
    *(torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
}
_ALIGNMENT = 64  # bytes: what torch gives its own tensors
_BUFFER_BYTES = 1 << 18


def cut_all(wanted: Sequence[tuple[torch.Tensor, Indices]]) -> list[torch.Tensor]:
    """Return a copy of each tensor with the indices given. A parameter becomes one that trains if it did."""
    values = [tensor.detach() for tensor, _ in wanted]
    shapes = [_shape(value, indices) for value, (_, indices) in zip(values, wanted, strict=True)]
    block = np.empty(sum(_room(v, s) for v, s in zip(values, shapes, strict=True)) + _ALIGNMENT, np.uint8)
    start = -block.ctypes.data % _ALIGNMENT
    result = []
    for value, shape, (tensor, indices) in zip(values, shapes, wanted, strict=True):
        if _in_numpy(value):
            array = value.numpy()
            place = np.ndarray(shape, array.dtype, block.data, start)
            start += _room(value, shape)
            _take_into(place, array, [(d, i) for d, i in enumerate(indices) if i is not None])
            cut = torch.from_numpy(place)
        else:
            cut = _selected(value, indices)
        if isinstance(tensor, nn.Parameter):
            cut = nn.Parameter(cut, requires_grad=tensor.requires_grad)
        result.append(cut)
    return result


def _shape(value: torch.Tensor, indices: Indices) -> list[int]:
    shape = list(value.shape)
    for dim, index in enumerate(indices):
        if index is not None:
            shape[dim] = len(index)
    return shape


def _room(value: torch.Tensor, shape: Sequence[int]) -> int:
    """Return the bytes that a compact tensor takes in the block."""
    if not _in_numpy(value):
        return 0
    return -(-math.prod(shape) * value.element_size() // _ALIGNMENT) * _ALIGNMENT


def _in_numpy(value: torch.Tensor) -> bool:
    return (
        type(value) is torch.Tensor
        and value.dtype in _NUMPY_DTYPES
        and value.device.type == "cpu"
        and value.layout is torch.strided
    )


def _take_into(place: np.ndarray, array: np.ndarray, chosen: Sequence[tuple[int, np.ndarray]]) -> None:
    """Write what is chosen of `array` to `place`; the last dimension chosen last, by rows of the first."""
    if not chosen:
        place[...] = array
        return
    if len(chosen) > 1 and chosen[0][0] == 0 and len(place):
        rows, rest = chosen[0][1], chosen[1:]
        step = max(1, _BUFFER_BYTES // max(1, array[0].nbytes))
        for start in range(0, len(rows), step):
            _take_into(place[start : start + step], array.take(rows[start : start + step], axis=0), rest)
        return
    for dim, index in chosen[:-1]:
        array = array.take(index, axis=dim)
    dim, index = chosen[-1]
    array.take(index, axis=dim, out=place, mode="clip")  # the default mode writes to a copy first


def _selected(value: torch.Tensor, indices: Indices) -> torch.Tensor:
    chosen = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    for dim, index in chosen:
        value = value.index_select(dim, torch.as_tensor(index, device=value.device))
    return value if chosen else value.clone()
