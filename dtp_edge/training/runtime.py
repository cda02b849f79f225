"""Hugging Face accelerate, reduced to what the loop needs: one machine or many, one precision or two."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.training.recipe import Recipe


class Runtime:
    """Where training runs. Started by `accelerate launch` or torchrun it is one of several processes."""

    def __init__(self, recipe: Recipe) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError(
                "training needs accelerate, which is not installed", hint='pip install "dtp-edge[train]"'
            ) from error
        self._accelerator = Accelerator(mixed_precision=recipe.mixed_precision)

    @property
    def device(self) -> torch.device:
        return self._accelerator.device

    @property
    def rank(self) -> int:
        return self._accelerator.process_index

    @property
    def world(self) -> int:
        return self._accelerator.num_processes

    @property
    def main(self) -> bool:
        return self._accelerator.is_main_process

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Move, wrap for several processes, and cast as asked. `module` itself keeps its forward."""
        return self._accelerator.prepare(module, optimizer)

    def release(self, module: nn.Module) -> None:
        """Undo `prepare`: forget the wrappers, give `module` its own forward back."""
        self._accelerator.unwrap_model(module, keep_fp32_wrapper=False)
        self._accelerator.free_memory()

    def autocast(self) -> AbstractContextManager[Any]:
        return self._accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip(self, module: nn.Module, limit: float) -> None:
        self._accelerator.clip_grad_norm_(module.parameters(), limit)

    def no_sync(self, module: nn.Module, skip: bool) -> AbstractContextManager[Any]:
        """Inside, gradients are not exchanged between processes (all parts of a batch but the last)."""
        return self._accelerator.no_sync(module) if skip else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Sum a small tensor over all processes."""
        total = self._accelerator.reduce(values.float().to(self.device), reduction="sum")
        assert isinstance(total, Tensor)
        return total.cpu().double()

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def move(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Move parameters and buffers in place.

    `Module.to` would put new tensors in place of the buffers, and a traced graph that shares them would
    keep the old ones.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.to(device)
    return module
