r"""The two-atom entropic transport plan, solved exactly and differentiated implicitly.

Mass $c_i$ at each score $s_i$ is moved to the two targets drop = 0 and keep = 1 at cost $(s_i - y)^2$,
with entropy $\varepsilon$ and the mass on keep fixed to the budget $B$. With two targets the Sinkhorn
problem has one free dual $b$, and a closed form in it:

$$m_i = \sigma(z_i + b), \quad z_i = (2 s_i - 1)/\varepsilon + \ell_i, \quad \sum_i c_i m_i = B$$

where $\ell_i$ are the log-odds of a previous plan (the Bregman term), 0 without one.

Written as $z_i + b = \kappa (u_i - p) + \beta$ with $\kappa = 2/\varepsilon$, $u_i = s_i + \ell_i/\kappa$
and a pivot $p$ among the $u_i$, differences are taken before they are scaled, so scores of any size stay
finite and the dual $\beta$ keeps its precision however small $\varepsilon$ is.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.transport._dual import blocks_of, solve_dual

__all__ = ["entropic_dual", "entropic_mask"]


def entropic_mask(
    scores: Tensor,
    costs: Tensor | None,
    budget: float | Tensor,
    epsilon: float | Tensor,
    log_prior: Tensor | None = None,
) -> Tensor:
    """Return soft keep-masks whose cost meets the budget exactly.

    **Arguments:**

    - `scores`: `[..., n]`, float32 or float64; leading dimensions are independent groups. Half
      precision is computed in float32 and returned in its own type.
    - `costs`: cost of keeping each item, >= 0, broadcastable to `scores`; None: all 1.
    - `budget`: what `sum(costs * mask)` must be, in the unit of `costs`; a number or `[...]`. 0 drops
      everything, the sum of all costs (or more) keeps everything.
    - `epsilon`: entropic regularisation > 0, a number or `[...]`; the smaller, the harder the mask.
    - `log_prior`: `[..., n]` log-odds of the previous plan, for the Bregman-proximal step.

    **Returns:** the mask, in (0, 1) and of the shape of `scores`, differentiable to any order in
    all five arguments (implicitly: the solver is not unrolled).

    **Raises:** `InputError` for shapes that do not fit, NaN, negative costs or budget, epsilon <= 0.
    """
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.dim() == 0:
        raise InputError(
            "entropic_mask needs `scores` as a floating-point tensor [..., n].",
            hint="For example torch.rand(8).",
        )
    dtype = scores.dtype if scores.dtype in (torch.float32, torch.float64) else torch.float32
    rows = scores.shape[:-1]
    s = scores.to(dtype)
    c = None if costs is None else _fit(costs, s, scores.shape, "costs")
    b = _per_row(budget, s, rows, "budget")
    eps = _per_row(epsilon, s, rows, "epsilon")
    prior = None if log_prior is None else _fit(log_prior, s, scores.shape, "log_prior")
    if scores.numel() == 0:
        return scores.clone()
    mask = cast(Tensor, _EntropicMask.apply(s, c, b, eps, prior))
    return mask if mask.dtype == scores.dtype else mask.to(scores.dtype)


def entropic_dual(
    scores: Tensor, costs: Tensor | None, budget: float | Tensor, epsilon: float | Tensor
) -> Tensor:
    """Return the threshold `tau [..., 1]` of `mask = sigmoid((2 / epsilon) * (scores - tau))`.

    Same arguments and errors as `entropic_mask`; not differentiable. Infinite where everything is
    kept or dropped.
    """
    rows = scores.shape[:-1]
    c = None if costs is None else _fit(costs, scores, scores.shape, "costs")
    b, eps = _per_row(budget, scores, rows, "budget"), _per_row(epsilon, scores, rows, "epsilon")
    with torch.no_grad():
        dual = solve_dual(scores.detach(), c, b.detach(), 2.0 / eps.detach())
    return dual.pivot - dual.shift * eps / 2


def _fit(value: Tensor, like: Tensor, shape: torch.Size, name: str) -> Tensor:
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    try:
        return value.expand(shape)
    except RuntimeError:
        got = tuple(value.shape)
        raise InputError(
            f"shape {got} does not broadcast to the scores' {tuple(shape)}.",
            where=name,
            hint="Give one value, or one per score.",
        ) from None


def _per_row(value: float | Tensor, like: Tensor, rows: torch.Size, name: str) -> Tensor:
    """Return `value` as `[*rows, 1]`, checked to be a number >= 0 (epsilon: > 0)."""
    if not isinstance(value, Tensor):
        value = float(value)
        if math.isnan(value) or value < 0 or (name == "epsilon" and (value == 0 or math.isinf(value))):
            raise InputError(f"got {value!r}.", where=name, hint=_ROW_HINT[name])
        return like.new_full((1,) * (len(rows) + 1), value).expand(*rows, 1)
    value = value.to(like)
    if value.dim() > len(rows):
        raise InputError(
            f"shape {tuple(value.shape)} does not fit the groups {tuple(rows)}.",
            where=name,
            hint="Give one value, or one per group.",
        )
    low = value.detach().amin() if value.numel() else torch.ones(())
    if not bool(low > 0 if name == "epsilon" else low >= 0):
        raise InputError(f"the smallest entry is {float(low)!r}.", where=name, hint=_ROW_HINT[name])
    try:
        return value.expand(rows).unsqueeze(-1)
    except RuntimeError:
        raise InputError(
            f"shape {tuple(value.shape)} does not fit the groups {tuple(rows)}.",
            where=name,
            hint="Give one value, or one per group.",
        ) from None


_ROW_HINT = {
    "budget": "Give the cost to keep, between 0 and the sum of all costs.",
    "epsilon": "Give a finite number above 0; smaller means harder masks.",
}


class _EntropicMask(torch.autograd.Function):
    """m(s, c, B, eps, prior) with the implicit gradient.

    From sum(c m) = B: dm = q (dz + db), db = (dB - sum(m dc) - sum(c q dz)) / sum(c q), q = m (1 - m).
    `backward` is written in differentiable operations of the saved output, so it has derivatives too.
    """

    @staticmethod
    def forward(ctx, s, c, budget, eps, prior):  # type: ignore[override]
        kappa = 2.0 / eps
        u = s if prior is None else s + prior / kappa
        dual = solve_dual(u, c, budget, kappa)
        mask = dual.mask
        ctx.save_for_backward(s, c, eps, mask)
        ctx.has_prior = prior is not None
        return mask

    @staticmethod
    def backward(ctx, *grads):
        (g,) = grads
        s, c, eps, m = ctx.saved_tensors
        need = ctx.needs_input_grad
        if not torch.is_grad_enabled() and not any(need[1:]):
            return _score_gradient(c, eps, m, g), None, None, None, None
        q = torch.addcmul(m, m, m, value=-1)
        if c is None:
            mass, moved = q.sum(-1, keepdim=True), torch.linalg.vecdot(g, q).unsqueeze(-1)
        else:
            cq = c * q
            mass = cq.sum(-1, keepdim=True)
            moved = torch.linalg.vecdot(g, q).unsqueeze(-1)
        safe = torch.where(mass > 0, mass, torch.ones_like(mass))
        ratio = torch.where(mass > 0, moved / safe, torch.zeros_like(mass))
        grad_z = q * g - ratio * (q if c is None else cq)
        grad_s = grad_z * (2.0 / eps) if need[0] else None
        grad_c = -ratio * m if need[1] else None
        grad_b = ratio if need[2] else None
        grad_e = (grad_z * (1 - 2 * s)).sum(-1, keepdim=True) / eps**2 if need[3] else None
        return grad_s, grad_c, grad_b, grad_e, grad_z if ctx.has_prior and need[4] else None


def _score_gradient(c: Tensor | None, eps: Tensor, m: Tensor, g: Tensor) -> Tensor:
    """`backward` for the scores alone, in blocks: no memory but the gradient's own."""
    shape, n = m.shape, m.shape[-1]
    m, g = m.reshape(-1, n), g.reshape(-1, n)
    mass = None if c is None else c.reshape(-1, n)
    scale = (2.0 / eps).expand(*shape[:-1], 1).reshape(-1, 1)
    held, moved = torch.zeros_like(scale), torch.zeros_like(scale)
    out = torch.empty_like(m)
    scratch = m.new_empty(m.shape[0], blocks_of(m)[0].stop) if m.numel() else m
    for block in blocks_of(m):  # q is written where the gradient will be
        q = torch.addcmul(m[:, block], m[:, block], m[:, block], value=-1, out=out[:, block])
        held += (q if mass is None else mass[:, block] * q).sum(-1, keepdim=True)
        product = torch.mul(g[:, block], q, out=scratch[:, : q.shape[1]])
        moved += product.sum(-1, keepdim=True)
    ratio = torch.where(held > 0, moved / torch.where(held > 0, held, torch.ones_like(held)), held)
    for block in blocks_of(m):
        q = out[:, block].mul_(scale)
        q.mul_(g[:, block] - ratio if mass is None else torch.addcmul(g[:, block], mass[:, block], -ratio))
    return out.reshape(shape)
