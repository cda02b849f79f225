"""The plan's masks as a differentiable function of the scores."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PlanMask"]


class PlanMask(torch.autograd.Function):
    r"""m = sigmoid(slope * s + offset), with the gradient of the duals that hold each set's budget.

    Atoms that a floor or cap holds (set g + 1) answer for $\sum_g m$ with the group's own dual:
    dL/ds_i = slope q_i (g_i - S), S = sum(g q) / sum(q) over the set, q = m (1 - m). The free ones (set 0)
    answer for every limit k that binds, with costs $c_{ki}$ and shares $r_{ki}$ of its dual:

    $$\frac{dL}{ds_i} = \mathrm{slope}\; q_i (g_i - \sum_k c_{ki} y_k), \quad
      \sum_k M_{lk} y_k = \sum_i r_{li} q_i g_i, \quad M_{lk} = \sum_i r_{li} q_i c_{ki}$$

    With `straight` > 0, q is mixed with its largest value 1/4: a mask at 0 or 1 still hears whether it
    should be there. The sum of r times the gradient stays 0: to move all scores along a dual changes nothing,
    so learning never pushes on the budgets.

    A mask below the spacing of its type's numbers under 1 (2^-24 for float32) is 0, as it is 1 where it is
    that near to 1: beside other channels no weight can feel it, and its products would be subnormal numbers,
    over which processors crawl.

    Shapes: scores, offset, sets `[n]`; costs, shares `[K, n]`, rows of zeros for limits that do not bind.
    """

    @staticmethod
    def forward(ctx, scores, offset, costs, shares, sets, slope, n_sets, straight):  # type: ignore[override]
        mask = torch.sigmoid(slope * scores.double() + offset)
        mask = torch.where(mask < torch.finfo(scores.dtype).eps / 2, 0.0, mask)
        ctx.save_for_backward(mask, costs, shares, sets)
        ctx.slope, ctx.n_sets, ctx.dtype, ctx.straight = slope, n_sets, scores.dtype, straight
        return mask.to(scores.dtype)

    @staticmethod
    def backward(ctx, *grads):
        mask, costs, shares, sets = ctx.saved_tensors
        g = grads[0].double()
        q = (1 - ctx.straight) * mask * (1 - mask) + ctx.straight / 4
        moved = g.new_zeros(ctx.n_sets).index_add(0, sets, g * q)
        held = g.new_zeros(ctx.n_sets).index_add(0, sets, q)
        rate = moved / held.clamp_min(torch.finfo(g.dtype).tiny)
        push = torch.where(sets == 0, _answer(g, q * (sets == 0), costs, shares), rate[sets])
        return (ctx.slope * q * (g - push)).to(ctx.dtype), None, None, None, None, None, None, None


def _answer(g: Tensor, q: Tensor, costs: Tensor, shares: Tensor) -> Tensor:
    """sum_k c_ki y_k for every atom; `q` is 0 where an atom is not free."""
    if len(costs) == 1:
        c = costs[0]
        return c * ((g * q).sum() / (c * q).sum().clamp_min(torch.finfo(g.dtype).tiny))
    matrix, right = (shares * q) @ costs.T, (shares * q) @ g
    # a limit that does not bind has a row and a column of zeros: its own 1 keeps the system solvable
    size = matrix.diagonal()
    idle = size <= 1e-12 * size.max()
    matrix = matrix + torch.diag(torch.where(idle, torch.ones_like(size), 1e-9 * size))
    return torch.linalg.solve_ex(matrix, torch.where(idle, 0.0, right))[0] @ costs
