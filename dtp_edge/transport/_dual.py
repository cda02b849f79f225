r"""Solves $\sum_i c_i \sigma(\kappa (u_i - p) + \beta) = B$ for $\beta$, row by row.

1. A sorted sample of each row gives the pivot $p$ (its weighted quantile at the budget), a first $\beta$.
2. Few passes over the whole row. All derivatives of the cost in $\beta$ come from one pass, because they are
   polynomials in m: with the moments $S_k = \sum c m^k$, $f' = S_1 - S_2$, $f'' = S_1 - 3 S_2 + 2 S_3$ ...
   Five moments make a step of size d leave an error of order d^5, so that the step after a good guess
   needs no further pass to confirm it. Every step stays in a bracket that contains the root.
3. Rows that resist (a tiny epsilon makes f a staircase) get their pivot from a full sort and are bisected.

Passes run in blocks that stay in the cache and write in place: memory is that of the mask, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dtp_edge.errors import InputError

_SAMPLE, _SECOND_SAMPLE = 4096, 131072
_BLOCK = 65536
_MAX_STEPS = 200
_NUDGE = 4e-3


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
        raise InputError(
            "scores or log_prior contain NaN.",
            where="entropic_mask",
            hint="The training diverged: lower the learning rate.",
        )
    return u.clamp(-limit, limit) if bool((low < -limit) | (high > limit)) else u


def _totals(u: Tensor, c: Tensor | None) -> Tensor:
    if c is None:
        return u.new_full((u.shape[0], 1), float(u.shape[1]))
    low, high = torch.aminmax(c)
    if not bool((low >= 0) & torch.isfinite(high)):
        raise InputError(
            "costs must be finite and >= 0.", where="costs", hint="A channel that costs nothing has cost 0."
        )
    return c.sum(-1, keepdim=True)


def _solve_rows(u: Tensor, c: Tensor | None, budget: Tensor, kappa: Tensor) -> Dual:
    total = _totals(u, c)
    full, empty = budget >= total, budget <= 0
    edge = full | empty
    # rows at an edge are solved for half of their mass, and overwritten below
    target = torch.where(edge, torch.where(total > 0, total / 2, torch.ones_like(total)), budget)
    pivot, shift = _from_sample(u, c, target, total, kappa)
    mask, shift, open_rows = _refine(u, c, target, kappa, pivot, shift, edge)
    if bool(open_rows.any()):
        pick = open_rows.squeeze(-1)
        part = _by_sorting(u[pick], None if c is None else c[pick], target[pick], kappa[pick])
        mask[pick], pivot[pick], shift[pick] = part.mask, part.pivot, part.shift
    if bool(edge.any()):
        infinite = torch.where(full, torch.inf, -torch.inf).to(u)
        shift = torch.where(edge, infinite, shift)
        mask = torch.where(edge, full.to(u), mask)
    return Dual(mask, pivot, shift)


def _from_sample(
    u: Tensor, c: Tensor | None, target: Tensor, total: Tensor, kappa: Tensor
) -> tuple[Tensor, Tensor]:
    """First guess of pivot and shift from every k-th item."""
    share = target / torch.where(total > 0, total, torch.ones_like(total))
    part, mass, want = _every(u, c, share, _SAMPLE)
    pivot = _quantile(part, mass, want)
    shift = torch.zeros_like(pivot)
    for _ in range(12):
        step = _step(_moments(torch.sigmoid(kappa * (part - pivot) + shift), mass), want)[0].clamp(-4, 4)
        shift = shift + step
        if bool((step.abs() < 1e-3).all()):
            break
    if u.shape[1] > _SECOND_SAMPLE:
        part, mass, want = _every(u, c, share, _SECOND_SAMPLE)
        step = _step(_moments(_fill(part, kappa, pivot, shift, part), mass), want)[0]
        shift = shift + step.clamp(-4, 4)
    return pivot, shift.to(u)


def _every(u: Tensor, c: Tensor | None, share: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return every k-th item, its mass, and the share of that mass to keep."""
    stride = max(1, -(-u.shape[1] // count))
    part = u[:, ::stride].contiguous()
    mass = torch.ones_like(part) if c is None else c[:, ::stride].contiguous()
    whole = mass.sum(-1, keepdim=True)
    if not bool((whole > 0).all()):
        mass = torch.where(whole > 0, mass, torch.ones_like(mass))
        whole = mass.sum(-1, keepdim=True)
    return part, mass, share * whole


def _quantile(u: Tensor, c: Tensor, want: Tensor) -> Tensor:
    """The item at which the mass above it, itself included, first reaches `want`."""
    order = u.argsort(dim=-1, descending=True)
    heavy = c.gather(-1, order).cumsum(-1)
    index = torch.searchsorted(heavy, want).clamp_max(u.shape[1] - 1)
    return u.gather(-1, order.gather(-1, index))


def _moments(m: Tensor, c: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return sums of c m^k for k = 1..5, float64 `[5, rows, 1]`."""
    w = torch.mul(m, m if c is None else c, out=out)
    first = m.sum(-1, keepdim=True) if c is None else w.sum(-1, keepdim=True)
    sums = [first]
    if c is None:
        sums.append(w.sum(-1, keepdim=True))
    while len(sums) < 5:
        sums.append(w.mul_(m).sum(-1, keepdim=True))
    return torch.stack(sums).double()


def _step(moments: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the step towards the root, f and f', float64 `[rows, 1]`."""
    a, b, c, d, e = moments
    f, f1, f2 = a - target.double(), a - b, a - 3 * b + 2 * c
    f3, f4 = a - 7 * b + 12 * c - 6 * d, a - 15 * b + 50 * c - 60 * d + 24 * e
    bottom = 2 * f1 * f1 - f * f2
    usable = (bottom > 0) & (f1 > 0)
    halley = -2 * f * f1 / torch.where(usable, bottom, torch.ones_like(f))
    step = torch.where(usable, halley, -f.sign() * 4)
    near, x = usable & (step.abs() < 0.1), step
    for _ in range(3):  # the Taylor polynomial's root, from Halley's estimate of it
        value = f + x * (f1 + x * (f2 / 2 + x * (f3 / 6 + x * f4 / 24)))
        slope = f1 + x * (f2 + x * (f3 / 2 + x * f4 / 6))
        x = x - value / torch.where(slope > 0, slope, torch.ones_like(slope))
    return torch.where(near & ((x - step).abs() < 0.1), x, step), f, f1


def blocks_of(u: Tensor) -> list[slice]:
    """Column blocks of `[rows, n]` that fit in the cache."""
    width = max(1, _BLOCK // u.shape[0])
    return [slice(i, min(i + width, u.shape[1])) for i in range(0, u.shape[1], width)]


def _fill(u: Tensor, kappa: Tensor, pivot: Tensor, shift: Tensor, out: Tensor) -> Tensor:
    return torch.sub(u, pivot, out=out).mul_(kappa).add_(shift).sigmoid_()


def _nudge(m: Tensor, d: Tensor, scratch: Tensor) -> None:
    """sigmoid(z) to sigmoid(z + d) in place, by its Taylor polynomial of order 4: cheaper than a sigmoid.

    With q = m (1 - m) and t = 1 - 2 m the derivatives are q, q t, q (1 - 6 q), q t (1 - 12 q); for
    |d| <= 4e-3 the fifth is below 1e-14.
    """
    q, rest = scratch
    torch.addcmul(m, m, m, value=-1, out=q)
    torch.mul(q, -0.5 * d**4, out=rest).add_(d**2 / 2 + d**4 / 24)
    rest.addcmul_(rest, m, value=-2)  # times t
    rest.addcmul_(q, -(d**3)).add_(d + d**3 / 6)
    m.addcmul_(q, rest)


def _refine(
    u: Tensor, c: Tensor | None, target: Tensor, kappa: Tensor, pivot: Tensor, shift: Tensor, done: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Few safeguarded steps on all rows; returns masks, shifts and which rows are still open."""
    close = 2e-2 if u.dtype == torch.float64 else 5e-2
    exact = 8 * torch.finfo(u.dtype).eps
    low, high = torch.full_like(shift, -torch.inf), torch.full_like(shift, torch.inf)
    mask, blocks = torch.empty_like(u), blocks_of(u)
    scratch = u.new_empty(2, u.shape[0], blocks[0].stop)
    settled, moved = done.clone(), torch.full_like(shift, torch.inf)
    for _ in range(8):
        moments = torch.zeros(5, u.shape[0], 1, dtype=torch.float64, device=u.device)
        for block in blocks:
            part = _fill(u[:, block], kappa, pivot, shift, mask[:, block])
            mass = None if c is None else c[:, block]
            moments += _moments(part, mass, scratch[0, :, : part.shape[1]])
        step, f, slope = _step(moments, target)
        low, high = torch.where(f <= 0, shift, low), torch.where(f >= 0, shift, high)
        new = shift + step.to(shift)
        inside = (new >= low) & (new <= high)
        middle = (low + high) / 2
        new = torch.where(inside | ~middle.isfinite(), new, middle)
        small = (step.abs() < close) & inside & (slope > exact * target)
        before, shift = shift, torch.where(settled | (f == 0), shift, new)
        moved = shift - before
        settled = settled | small | (f.abs() <= exact * target)
        if bool(settled.all()):
            break
    near = bool((moved.abs() <= _NUDGE).all())
    for block in blocks:
        if near:
            _nudge(mask[:, block], moved, scratch[..., : block.stop - block.start])
        else:
            _fill(u[:, block], kappa, pivot, shift, mask[:, block])
    # beyond this size the shift's own rounding moves the cost: those rows want a better pivot
    coarse = shift.abs() * torch.finfo(u.dtype).eps > (2e-7 if u.dtype == torch.float64 else 6e-5)
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
        step, f, _ = _step(_moments(torch.sigmoid(z + shift), mass), target)
        low, high = torch.where(f <= 0, shift, low), torch.where(f >= 0, shift, high)
        new = shift + step.to(shift)
        new = torch.where((new > low) & (new < high), new, (low + high) / 2)
        stuck = (new == shift) | (f == 0) | (high - low <= 0)
        shift = torch.where(stuck, shift, new)
        if bool(stuck.all()):
            break
    return Dual(torch.sigmoid(z + shift), pivot, shift)
