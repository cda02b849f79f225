"""Inputs and outputs of a network as trees of tensors: their leaves, their batch, and noise of their kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from dtp_edge.graph.hush import hushed


def as_tuple(inputs: Any) -> tuple[Any, ...]:
    """Return the positional arguments that `inputs` stand for: one alone is a tuple of one."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def leaves(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors of a network's output, whatever it is nested in, in order."""
    return [x for x in pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor)]


def random_like(
    example_inputs: Sequence[Any], seed: int, dtype: torch.dtype | None = None
) -> tuple[Any, ...]:
    """Return inputs of the same shapes: normal noise for floats, the example itself for integers.

    Integers index tables, so other values could be out of range; their batch is permuted instead.
    """
    generator = torch.Generator("cpu").manual_seed(seed)

    def fresh(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if x.is_floating_point() or x.is_complex():
            noise = torch.randn(x.shape, generator=generator, dtype=dtype or x.dtype, device="cpu")
            return noise.to(x.device)
        flat = x.reshape(-1)
        order = torch.randperm(flat.numel(), generator=generator, device="cpu")
        return flat[order.to(x.device)].reshape(x.shape)

    return tuple(pytree.tree_map(fresh, x) for x in example_inputs)


def batch_of(inputs: Any) -> int | None:
    """Return the length of dimension 0 of the first input that has one: the batch, if rows are samples."""
    return next((x.shape[0] for x in leaves(inputs) if x.ndim), None)


def carries_batch(x: Any, batch: int | None) -> bool:
    """Return whether an input has the batch as its dimension 0."""
    return isinstance(x, torch.Tensor) and x.ndim > 0 and x.shape[0] == batch


def batch_one(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cut the inputs that carry the batch to one sample."""
    batch = batch_of(inputs)
    return pytree.tree_map(lambda x: x[:1] if carries_batch(x, batch) else x, inputs)


def copied(inputs: Any) -> Any:
    """Return the inputs in memory of their own: a network may write to what it is given."""
    return pytree.tree_map_only(torch.Tensor, lambda x: x.detach().clone(), inputs)


def in_float64(inputs: Any) -> Any:
    """Return the inputs with their floats in float64, where rounding hides nothing; the rest as it is."""
    return pytree.tree_map_only(torch.Tensor, lambda x: x.double() if x.is_floating_point() else x, inputs)


def call(module: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """Return what `module` makes of a copy of `inputs`, without gradients.

    A graph module prints the traceback of its failing code; here whoever asked decides what that means.
    """
    with torch.no_grad(), hushed():
        return module(*copied(inputs))
