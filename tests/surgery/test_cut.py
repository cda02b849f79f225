"""Cutting tensors: what index_select gives, in memory of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dtp_edge.surgery.cut import cut_all

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.bool,
    torch.complex64,
]


@st.composite
def wanted(draw):
    """A tensor of any type and layout, and what to keep of each dimension."""
    shape = draw(st.lists(st.integers(0, 9), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    tensor = (4 * torch.randn(shape, generator=generator)).to(draw(st.sampled_from(DTYPES)))
    if tensor.dim() > 1 and draw(st.booleans()):
        tensor = tensor.transpose(0, -1)
    if tensor.dim() == 4 and draw(st.booleans()):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if tensor.is_floating_point() and draw(st.booleans()):
        tensor = nn.Parameter(tensor, requires_grad=draw(st.booleans()))
    indices = [
        np.array(sorted(draw(st.sets(st.integers(0, size - 1)))), dtype=np.int64)
        if size and draw(st.booleans())
        else None
        for size in tensor.shape
    ]
    return tensor, indices


def by_index_select(tensor, indices):
    for dim, index in enumerate(indices):
        if index is not None:
            tensor = tensor.index_select(dim, torch.from_numpy(index))
    return tensor


@settings(max_examples=150, deadline=None)
@given(st.lists(wanted(), max_size=4))
def test_equal_to_index_select_and_apart_from_each_other(many):
    found = cut_all(many)
    expected = [by_index_select(t.detach().clone(), i) for t, i in many]
    sources = [t.detach().clone() for t, _ in many]
    assert len(found) == len(many)
    for cut, want, (tensor, _) in zip(found, expected, many, strict=True):
        assert cut.shape == want.shape
        assert cut.dtype == want.dtype
        assert torch.equal(cut.detach(), want)
        assert isinstance(cut, nn.Parameter) == isinstance(tensor, nn.Parameter)
        assert cut.requires_grad == tensor.requires_grad
    for position, cut in enumerate(found):  # writing to one changes neither its source nor a neighbour
        cut.detach().fill_(1)
        for later in range(position + 1, len(found)):
            assert torch.equal(found[later].detach(), expected[later])
    for (tensor, _), before in zip(many, sources, strict=True):
        assert torch.equal(tensor.detach(), before)


def test_more_rows_than_the_buffer_holds():
    tensor = torch.randn(300, 200, 3, 3)
    rows, columns = np.arange(0, 300, 2), np.arange(1, 200, 3)
    (found,) = cut_all([(tensor, [rows, columns, None, None])])
    assert torch.equal(found, tensor[::2][:, 1::3])


def test_every_tensor_is_aligned_and_has_a_storage_of_its_own():
    found = cut_all([(torch.randn(n), [None]) for n in (1, 3, 17, 33)])
    assert all(t.data_ptr() % 64 == 0 for t in found)
    assert [t.untyped_storage().nbytes() for t in found] == [4, 12, 68, 132]
    assert len({t.untyped_storage().data_ptr() for t in found}) == 4


def test_other_devices_are_cut_there():
    (found,) = cut_all([(torch.empty(4, 6, device="meta"), [np.array([0, 2]), None])])
    assert found.device.type == "meta"
    assert found.shape == (2, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cut_weights_train_and_save(dtype, tmp_path):
    (weight,) = cut_all([(nn.Parameter(torch.randn(6, 4, dtype=dtype)), [np.array([1, 5]), None])])
    weight.square().sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, 2 * weight.detach())
    torch.save({"w": weight}, tmp_path / "w.pt")
    assert torch.equal(torch.load(tmp_path / "w.pt", weights_only=True)["w"], weight)
    assert (tmp_path / "w.pt").stat().st_size < 4000
