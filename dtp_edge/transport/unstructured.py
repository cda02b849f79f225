"""Masks on single weights: a sparse network, not a smaller one.

The same plan as for channels, with one score a weight. Costs are sums here (a weight costs one parameter,
and as many MACs as it is used), so the two-atom plan is solved by `entropic_mask` itself. The result keeps
every shape: dense kernels run it no faster and its file is no smaller, and it says so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import BudgetError, InputError, UnsupportedError
from dtp_edge.graph import mode_of
from dtp_edge.graph.leaves import as_tuple
from dtp_edge.transport.budget import KEPT, Budget
from dtp_edge.transport.entropic import entropic_mask

__all__ = ["SparseResult", "WeightPruner"]

NOTE = (
    "Unstructured: shapes are unchanged and dropped weights are zero. Dense kernels run this network no "
    "faster, and its file is no smaller unless it is compressed."
)
SPREAD = 0.1
_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass
class SparseResult:
    """`module` with zeros for dropped weights, `{weight name: (kept, total)}`, cost used, and a note."""

    module: nn.Module
    kept: dict[str, tuple[int, int]]
    used: dict[str, float]
    note: str = NOTE


class WeightPruner(nn.Module):
    """The network with a soft mask on every weight of its convolutions and linear layers.

    **Arguments:**

    - `model`: copied, never changed; `pruner.module` is the copy.
    - `example_inputs`: a tensor or tuple, needed to count the MACs of each weight.
    - `budget`: `keep` or `params` or `macs` (shares or counts, over all masked weights), or `layer_keep`
      (the same share in every layer). Latency, RAM and flash are refused: zeros do not change them.
    - `total_steps`: number of `step()` calls until the masks are hard.
    - `logit_scale`, `ramp`: as in `MaskLearner`.

    **Raises:** `UnsupportedError`, `InputError`, `BudgetError`.
    """

    log_odds: Tensor
    costs: Tensor
    hard_mask: Tensor
    steps_done: Tensor

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor | tuple[Any, ...],
        *,
        budget: Budget,
        total_steps: int,
        logit_scale: float = 100.0,
        ramp: float = 0.5,
    ) -> None:
        super().__init__()
        if total_steps < 1:
            raise InputError(f"total_steps is {total_steps}.", hint="Give the number of steps, >= 1.")
        self.module = copy.deepcopy(model)
        inputs = as_tuple(example_inputs)
        uses = _uses(self.module, inputs)
        if not uses:
            raise UnsupportedError(
                "there is no convolution or linear layer to prune.",
                hint="Give a network with nn.Conv or nn.Linear modules that its forward calls.",
            )
        parameters = dict(self.module.named_parameters())
        self.names = list(uses)
        self.sizes = [parameters[name].numel() for name in self.names]
        self.total_steps, self.ramp = total_steps, ramp
        self.epsilon = 2.0 * total_steps * SPREAD / logit_scale
        flat = torch.cat([parameters[name].detach().float().reshape(-1) for name in self.names])
        self.scores = nn.Parameter(_start(flat))
        metric, self.limits = self._limits(budget, uses)
        costs = torch.cat(
            [torch.full((size,), float(uses[n])) for n, size in zip(self.names, self.sizes, strict=True)]
        )
        self.register_buffer("costs", costs.to(flat) if metric == "macs" else torch.ones_like(flat))
        self.register_buffer("log_odds", torch.zeros_like(flat))
        self.register_buffer("hard_mask", torch.zeros_like(flat, dtype=torch.bool))
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def _limits(self, budget: Budget, uses: dict[str, int]) -> tuple[str, list[float]]:
        """Return the metric and what may be kept of it: in all (one entry) or in every layer."""
        asked = [n for n in ("latency", "ram", "flash") if getattr(budget, n) is not None]
        if asked:
            raise UnsupportedError(f"a {asked[0]} budget cannot be met by zeros in dense tensors.", hint=NOTE)
        shares = budget.layer_shares(self.names)
        total = {"params": float(sum(self.sizes)), KEPT: float(sum(self.sizes))}
        total["macs"] = float(sum(uses[n] * s for n, s in zip(self.names, self.sizes, strict=True)))
        limits = budget.limits(total)
        if len(limits) + bool(shares) != 1:
            raise InputError(
                "unstructured pruning takes one budget.", hint="Give one of keep, params, macs, layer_keep."
            )
        if shares:
            return "params", [shares.get(n, 1.0) * s for n, s in zip(self.names, self.sizes, strict=True)]
        ((metric, limit),) = limits.items()
        if limit < 1:
            row = {"metric": metric, "asked": limit, "smallest": 1.0, "dense": total[metric], "unit": ""}
            raise BudgetError("not even one weight fits the budget.", rows=[row], hint="Give a larger one.")
        return metric, [min(limit, total[metric])]

    def forward(self, *inputs: Any) -> Any:
        """Run the network on masked weights."""
        parameters: dict[str, Tensor] = dict(self.module.named_parameters())
        for name, mask in zip(self.names, self.mask().split(self.sizes), strict=True):
            weight = parameters[name]
            parameters[name] = weight * mask.reshape(weight.shape).to(weight.dtype)
        return torch.func.functional_call(self.module, parameters, inputs)

    def mask(self) -> Tensor:
        """Return the masks of all weights, flat, in the order of `names`."""
        if self.is_hard:
            return self.hard_mask.to(self.scores.dtype)
        share = min(1.0, (int(self.steps_done) + 1) / max(1.0, self.ramp * self.total_steps))
        parts = [self.scores, self.costs, self.log_odds]
        pieces = [[p] for p in parts] if len(self.limits) == 1 else [p.split(self.sizes) for p in parts]
        found = []
        for limit, score, cost, prior in zip(self.limits, *pieces, strict=True):
            dense = float(cost.double().sum())
            found.append(entropic_mask(score, cost, dense + share * (limit - dense), self.epsilon, prior))
        return torch.cat(found)

    @property
    def is_hard(self) -> bool:
        """True once `total_steps` steps are done."""
        return int(self.steps_done) >= self.total_steps

    @torch.no_grad()
    def step(self) -> None:
        """Advance the plan by one mini-batch (after the optimiser's step)."""
        if self.is_hard:
            return
        self.log_odds += (2.0 / self.epsilon) * self.scores
        self.steps_done += 1
        if self.is_hard:
            self.hard_mask.copy_(self.harden())

    @torch.no_grad()
    def harden(self) -> Tensor:
        """Return which weights stay (flat, bool): the best by averaged score, never over the budget."""
        rank = self.scores if int(self.steps_done) == 0 else self.log_odds
        sizes = [len(rank)] if len(self.limits) == 1 else self.sizes
        found = []
        pieces = zip(self.limits, rank.split(sizes), self.costs.split(sizes), strict=True)
        for limit, score, cost in pieces:
            order = score.argsort(descending=True, stable=True)
            spent = cost[order].double().cumsum(0)
            keep = torch.zeros_like(score, dtype=torch.bool)
            keep[order] = spent <= limit * (1 + 1e-12)
            found.append(keep)
        return torch.cat(found)

    @torch.no_grad()
    def finish(self) -> SparseResult:
        """Return a copy of the network with the dropped weights set to zero."""
        keep, module = self.harden() if not self.is_hard else self.hard_mask, copy.deepcopy(self.module)
        parameters, kept = dict(module.named_parameters()), {}
        for name, part in zip(self.names, keep.split(self.sizes), strict=True):
            parameters[name].mul_(part.reshape(parameters[name].shape))
            kept[name] = (int(part.sum()), part.numel())
        spent = [float((self.costs * keep).double().sum())]
        return SparseResult(
            module, kept, {"cost": spent[0], "share": spent[0] / float(self.costs.double().sum())}
        )


def _start(flat: Tensor) -> Tensor:
    """log |w|, standardised to the usual spread."""
    size = flat.abs()
    if not bool(torch.isfinite(size).all()):
        raise InputError(
            "the weights contain NaN or infinity.", hint="The training diverged: lower the learning rate."
        )
    floor = size[size > 0].min() if bool((size > 0).any()) else size.new_ones(())
    score = size.clamp_min(float(floor)).log()
    spread = score.std() if len(score) > 1 else score.new_zeros(())
    return SPREAD * (score - score.mean()) / spread if float(spread) > 0 else torch.zeros_like(score)


@torch.no_grad()
def _uses(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, int]:
    """MACs of one weight of every convolution and linear layer for one example: its output positions."""
    found: dict[str, int] = {}
    hooks = []
    for name, layer in module.named_modules():
        if not isinstance(layer, _KINDS):
            continue
        key = f"{name}.weight" if name else "weight"
        channels = layer.weight.shape[0]

        def count(_: Any, __: Any, out: Tensor, key: str = key, channels: int = channels) -> None:
            found[key] = found.get(key, 0) + out.numel() // (len(out) * channels)

        hooks.append(layer.register_forward_hook(count))
    try:
        with mode_of(module, training=False):
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    known = dict(module.named_parameters())
    return {name: uses for name, uses in found.items() if name in known}
