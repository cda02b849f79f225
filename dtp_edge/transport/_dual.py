r"""Solves $\sum_i c_i \sigma(\kappa (u_i - p) + \beta) = B$ for $\beta$, row by row.

1. A sorted sample of each row gives the pivot $p$ (its weighted quantile at the budget), a first $\beta$.
2. Halley steps on the whole row, kept inside a bracket that always contains the root. All derivatives
   come from one pass, because they are polynomials in m:
   $f' = \sum c (m - m^2)$, $f'' = \sum c (m - 3 m^2 + 2 m^3)$.
3. $|f''| \le f'$ holds everywhere, so a Halley step of size d leaves an error of order d^3: the last
   step needs no pass to confirm it.
4. Rows that resist (a tiny epsilon makes f a staircase) get their pivot from a full sort and are
   bisected in log-odds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dtp_edge.errors import InputError

_SAMPLE = 8192
_MAX_STEPS = 200


@dataclass
class Dual:
    """`mask = sigmoid(kappa (u - pivot) + shift)`; all but the mask are `[..., 1]`."""

    mask: Tensor
    pivot: Tensor
    shift: Tensor


def solve_dual(u: Tensor, c: Tensor | None, budget: Tensor, kappa: Tensor) -> Dual:
    """Solve rows `u [..., n]` for masses `c [..., n]` (None: 1), `budget` and `kappa` `[..., 1]`.

    Raises `InputError` for NaN scores, and for negative or non-finite costs.
    """
    rows, n = u.shape[:-1], u.shape[-1]
    flat = u.detach().reshape(-1, n)
    mass = None if c is None else c.detach().expand(u.shape).reshape(-1, n)
    target = budget.detach().expand(*rows, 1).reshape(-1, 1)
    slope = kappa.detach().expand(*rows, 1).reshape(-1, 1)
    dual = _solve_rows(_bounded(flat), mass, target, slope)
    shape = (*rows, 1)
    return Dual(dual.mask.reshape(u.shape), dual.pivot.reshape(shape), dual.shift.reshape(shape))


def _bounded(u: Tensor) -> Tensor:
    """Refuse NaN; clamp so that no difference of two scores overflows."""
    low, high = torch.aminmax(u)
    limit = torch.finfo(u.dtype).max / 4
    if bool(torch.isnan(low) | torch.isnan(high)):
        raise InputError("scores or log_prior contain NaN.", where="entropic_mask")
    return u.clamp(-limit, limit) if bool((low < -limit) | (high > limit)) else u


def _totals(u: Tensor, c: Tensor | None) -> Tensor:
    if c is None:
        return u.new_full((u.shape[0], 1), float(u.shape[1]))
    low, high = torch.aminmax(c)
    if not bool((low >= 0) & torch.isfinite(high)):
        raise InputError("costs must be finite and >= 0.", where="costs")
    return c.sum(-1, keepdim=True)


def _solve_rows(u: Tensor, c: Tensor | None, budget: Tensor, kappa: Tensor) -> Dual:
    total = _totals(u, c)
    full, empty = budget >= total, budget <= 0
    edge = full | empty
    # rows at an edge are solved for half of their mass, and overwritten below
    target = torch.where(edge, torch.where(total > 0, total / 2, torch.ones_like(total)), budget)
    pivot, shift = _from_sample(u, c, target, total, kappa)
    mask, shift, open_rows = _halley(u, c, target, kappa, pivot, shift, edge)
    if bool(open_rows.any()):
        pick = open_rows.squeeze(-1)
        part = _by_sorting(u[pick], None if c is None else c[pick], target[pick], kappa[pick])
        mask[pick], pivot[pick], shift[pick] = part.mask, part.pivot, part.shift
    if bool(edge.any()):
        infinite = torch.where(full, torch.inf, -torch.inf).to(u)
        shift = torch.where(edge, infinite, shift)
        mask = torch.where(edge, full.to(u), mask)
    return Dual(mask, pivot, shift)


def _logit(budget: Tensor, total: Tensor) -> Tensor:
    return budget.log() - (total - budget).clamp_min(torch.finfo(budget.dtype).tiny).log()


def _from_sample(
    u: Tensor, c: Tensor | None, target: Tensor, total: Tensor, kappa: Tensor
) -> tuple[Tensor, Tensor]:
    """First guess of pivot and shift from every k-th item."""
    stride = max(1, -(-u.shape[1] // _SAMPLE))
    part = u[:, ::stride].contiguous()
    mass = torch.ones_like(part) if c is None else c[:, ::stride].contiguous()
    part_total = mass.sum(-1, keepdim=True)
    mass = torch.where(part_total > 0, mass, torch.ones_like(mass))
    share = target / torch.where(total > 0, total, torch.ones_like(total))
    want = share * mass.sum(-1, keepdim=True)
    pivot = _quantile(part, mass, want)
    shift = _logit(want, mass.sum(-1, keepdim=True)).clamp(-30, 30) * 0
    for _ in range(12):
        m = torch.sigmoid(kappa * (part - pivot) + shift)
        step, _, _ = _halley_step(m, mass, want)
        step = step.clamp(-4, 4)
        shift = shift + step
        if bool((step.abs() < 1e-3).all()):
            break
    return pivot, shift


def _quantile(u: Tensor, c: Tensor, want: Tensor) -> Tensor:
    """The item at which the mass above it, itself included, first reaches `want`."""
    order = u.argsort(dim=-1, descending=True)
    heavy = c.gather(-1, order).cumsum(-1)
    index = torch.searchsorted(heavy, want).clamp_max(u.shape[1] - 1)
    return u.gather(-1, order.gather(-1, index))


def _halley_step(m: Tensor, c: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the step, f and f' of the current masks `m` (one pass)."""
    if c is None:
        first = m.sum(-1, keepdim=True)
        square = torch.linalg.vecdot(m, m).unsqueeze(-1)
        cube = torch.linalg.vecdot(m * m, m).unsqueeze(-1)
    else:
        w = c * m
        first = w.sum(-1, keepdim=True)
        square = torch.linalg.vecdot(w, m).unsqueeze(-1)
        cube = torch.linalg.vecdot(w.mul_(m), m).unsqueeze(-1)
    f, slope = first - target, first - square
    curve = first - 3 * square + 2 * cube
    bottom = 2 * slope * slope - f * curve
    usable = (bottom > 0) & (slope > 0)
    step = torch.where(
        usable, -2 * f * slope / torch.where(usable, bottom, torch.ones_like(f)), -f.sign() * 4
    )
    return step, f, slope


def _halley(
    u: Tensor, c: Tensor | None, target: Tensor, kappa: Tensor, pivot: Tensor, shift: Tensor, done: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Few safeguarded steps on all rows; returns masks, shifts and which rows are still open."""
    close = 1e-5 if u.dtype == torch.float64 else 3e-3
    exact = 8 * torch.finfo(u.dtype).eps
    low, high = torch.full_like(shift, -torch.inf), torch.full_like(shift, torch.inf)
    z = kappa * (u - pivot)
    mask = torch.empty_like(z)
    settled = done.clone()
    for _ in range(8):
        torch.add(z, shift, out=mask).sigmoid_()
        step, f, slope = _halley_step(mask, c, target)
        low, high = torch.where(f <= 0, shift, low), torch.where(f >= 0, shift, high)
        new = shift + step
        inside = (new >= low) & (new <= high)
        middle = (low + high) / 2
        new = torch.where(inside | ~middle.isfinite(), new, middle)
        small = (step.abs() < close) & inside & (slope > exact * target)
        shift = torch.where(settled, shift, torch.where(f == 0, shift, new))
        settled = settled | small | (f.abs() <= exact * target)
        if bool(settled.all()):
            break
    # beyond this size the shift's own rounding moves the cost: those rows want a better pivot
    coarse = shift.abs() * torch.finfo(u.dtype).eps > 0.02 * close
    torch.add(z, shift, out=mask).sigmoid_()
    return mask, shift, ~settled | (coarse & ~done)


def _by_sorting(u: Tensor, c: Tensor | None, target: Tensor, kappa: Tensor) -> Dual:
    """Exact pivot by a full sort, then bisection finished by Newton: for staircases."""
    mass = torch.ones_like(u) if c is None else c
    pivot = _quantile(u, mass, target)
    z = kappa * (u - pivot)
    shift = torch.zeros_like(pivot)
    reach = torch.full_like(pivot, 1.0)
    for _ in range(2100):  # double the bracket until it holds the root
        f_low = (mass * torch.sigmoid(z - reach)).sum(-1, keepdim=True) - target
        f_high = (mass * torch.sigmoid(z + reach)).sum(-1, keepdim=True) - target
        outside = (f_low > 0) | (f_high < 0)
        if not bool(outside.any()) or not bool(reach.isfinite().all()):
            break
        reach = torch.where(outside, reach * 2, reach)
    low, high = -reach, reach
    for _ in range(_MAX_STEPS):
        m = torch.sigmoid(z + shift)
        step, f, _ = _halley_step(m, mass, target)
        low, high = torch.where(f <= 0, shift, low), torch.where(f >= 0, shift, high)
        new = shift + step
        new = torch.where((new > low) & (new < high), new, (low + high) / 2)
        stuck = (new == shift) | (f == 0) | (high - low <= 0)
        shift = torch.where(stuck, shift, new)
        if bool(stuck.all()):
            break
    return Dual(torch.sigmoid(z + shift), pivot, shift)
