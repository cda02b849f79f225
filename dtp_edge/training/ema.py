"""A running average of the weights (Polyak), which often scores better than the last step's.

Not `torch.optim.swa_utils.AveragedModel`: it deep-copies the module, here with the traced network in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Keeps `values <- decay * values + (1 - decay) * weights`; the decay rises over the first steps."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: t.detach().clone() for k, t in module.state_dict().items()}
        self.values["_updates"] = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        count = int(self.values["_updates"]) + 1
        self.values["_updates"].fill_(count)
        decay = min(self.decay, count / (count + 10))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor.to(self.values[name]), 1 - decay)
            else:
                self.values[name].copy_(tensor)

    @torch.no_grad()
    def copy_into(self, module: nn.Module) -> None:
        own: dict[str, Tensor] = module.state_dict()
        for name, tensor in own.items():
            tensor.copy_(self.values[name])

    @contextmanager
    def swapped_in(self, module: nn.Module) -> Iterator[None]:
        """Inside, `module` has the averaged weights."""
        before = {k: t.detach().clone() for k, t in module.state_dict().items()}
        self.copy_into(module)
        try:
            yield
        finally:
            module.load_state_dict(before)
