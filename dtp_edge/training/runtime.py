"""Hugging Face accelerate, reduced to what the loop needs: one machine or many, one precision or two."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.errors import InputError
from dtp_edge.ops.nodes import lookup
from dtp_edge.training.recipe import Recipe


class Runtime:
    """Where training runs. Started by `accelerate launch` or torchrun it is one of several processes.

    The precision is the recipe's, or the launcher's (`accelerate launch --mixed_precision bf16`) where the
    recipe asks for none. Raises `InputError` where the device cannot compute in it.
    """

    def __init__(self, recipe: Recipe) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState
        except ImportError as error:
            raise InputError(
                "training needs accelerate, which is not installed", hint='pip install "dtp-edge[train]"'
            ) from error
        self.precision = recipe.mixed_precision
        if self.precision == "no":
            self.precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if AcceleratorState._shared_state.get("_mixed_precision", self.precision) != self.precision:
            AcceleratorState._reset_state()  # accelerate holds on to the precision of a process's first run
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        # without a GPU, accelerate takes torchrun's processes for strangers unless it is told
        alone_on_cpus = launched > 1 and not torch.accelerator.is_available()
        self._accelerator = Accelerator(mixed_precision=self.precision, cpu=alone_on_cpus)
        if self.world != launched:
            raise InputError(
                f"{launched} processes were launched, but accelerate sees {self.world}",
                hint="Start them with `accelerate launch --num_processes N` or torchrun.",
            )
        if self.precision == "fp16" and self.device.type == "cpu":
            AcceleratorState._reset_state()
            raise InputError(
                "mixed precision fp16 needs a GPU: on a CPU gradients vanish, since nothing scales them",
                hint="Use bf16, or no.",
            )

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
        """Wrap for several processes, and cast as asked. `module` is on the device (`move`) and stays.

        accelerate would move it too: among processes on CPUs (device cpu:0) into new buffers, which whoever
        shares the old ones (the traced graph, the compact one) would never hear of.
        """
        return self._accelerator.prepare(module, optimizer, device_placement=[False, False])

    def release(self, module: nn.Module) -> None:
        """Undo `prepare`: forget the wrappers, give `module` its own forward back."""
        self._accelerator.unwrap_model(module, keep_fp32_wrapper=False)
        self._accelerator.free_memory()
        if isinstance(module, fx.GraphModule):
            vars(module).pop("forward", None)

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

    def agreed(self, fine: bool) -> bool:
        """Whether all is fine in every process."""
        return fine if self.world == 1 else float(self.sum(torch.tensor([float(not fine)]))) == 0.0

    def gathered(self, value: Any) -> list[Any]:
        """Return what every process has for `value`, in their order; it is pickled."""
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def agree(self, module: nn.Module) -> None:
        """Give every process the same batch-norm statistics: the mean over all of them.

        Each process normalises its own part of a batch, so that the running averages drift apart.
        """
        if self.world == 1:
            return
        for values in running_statistics(module):
            mean = self._accelerator.reduce(values.detach().clone(), reduction="mean")
            assert isinstance(mean, Tensor)
            values.copy_(mean)

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Mean and variance of every batch norm that keeps them, in modules and in graphs of operators."""
    found: list[Tensor] = []
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None:
            found += [part.running_mean, part.running_var]
        if isinstance(part, fx.GraphModule):
            read = [n.args[3:5] for n in part.graph.nodes if n.target is torch.ops.aten.batch_norm.default]
            found += [lookup(part, str(a.target)) for pair in read for a in pair if isinstance(a, fx.Node)]
    return list({id(values): values for values in found}.values())


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's tensors are; the CPU if it has none."""
    return next((t.device for t in module.state_dict().values()), torch.device("cpu"))


def move(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Move parameters and buffers in place.

    `Module.to` would put new tensors in place of the buffers, and a traced graph that shares them would
    keep the old ones.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.to(device)
    return module
