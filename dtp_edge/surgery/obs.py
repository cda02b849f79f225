r"""Structured optimal brain surgery: the error of every width of a group, in one pass of downdates.

A *reader* computes $Y = X W^T$ from the group's channels, with $H = \tfrac1n X^T X + \rho\,\tau I$ the moment
of its inputs. Without the columns $S$ of one atom, the best that the rest can do raises its squared error by

$$\Delta(S) = \mathrm{tr}\left(W_S\,[(H^{-1})_{SS}]^{-1}\,W_S^T\right), \qquad
  W \leftarrow W - W_S\,[(H^{-1})_{SS}]^{-1}(H^{-1})_{S:}, \quad
  H^{-1} \leftarrow H^{-1} - (H^{-1})_{:S}\,[(H^{-1})_{SS}]^{-1}(H^{-1})_{S:}$$

(Hassibi and Stork 1992; in blocks: Kurtic et al., ZipLM, 2023, section 3.1). Where several layers read a
group their errors add, and one order serves all of them. The cheapest atom goes first, so that the running
sum is the error of every width. The ridge bounds what the repair may ask of the weights that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["Curve", "Reads", "eliminate"]

_AT_ONCE = 96  # steps of a large group at most: several atoms then go in one


@dataclass(frozen=True)
class Reads:
    """What one reader makes of a group.

    `moment` `[d, d]` of its inputs, ridge included; `weight` `[neurons, d]`, its rows scaled by the root of
    what a squared error there is worth; `columns` `[n, c]` the inputs of each atom (-1 fills up rows that
    have fewer).
    """

    moment: Tensor
    weight: Tensor
    columns: np.ndarray
    name: str = (
        ""  # of the weight, of which this is the part at `place`: group of a convolution, first column
    )
    place: tuple[int, int] = (0, 0)
    block: int = 0  # of its moment


@dataclass(frozen=True)
class Curve:
    """`order` `[n]`: atoms as they go, first the cheapest; `error` `[n + 1]`: the summed squared error
    without the first t of them, never falling, the last for a group without anything in it; `repaired` what
    is left of every reader's weights once so many have gone, where that was asked for."""

    order: np.ndarray
    error: np.ndarray
    repaired: dict[int, list[tuple[Reads, Tensor]]] = field(default_factory=dict, repr=False)


def eliminate(readers: Sequence[Reads], n: int, steps: int = _AT_ONCE, keep_at: Sequence[int] = ()) -> Curve:
    """Return the order in which a group's `n` atoms go, and the error at every width.

    Exact greedy elimination up to `steps` atoms; larger groups lose several atoms a step, by the scores at
    its begin.
    """
    states = [_State(reads) for reads in readers]
    alive = np.ones(n, dtype=bool)
    order: list[int] = []
    error, repaired = [0.0], {}
    each = max(1, -(-n // max(1, steps)))
    while len(order) < n:
        left = np.flatnonzero(alive)
        scores = np.sum([state.scores(left) for state in states], axis=0)
        first = np.argsort(scores, kind="stable")[: _until(len(order), each, n, keep_at)]
        rise = max(sum(state.remove(left[first]) for state in states), 0.0)
        shares = np.maximum(scores[first], 1e-300)
        error += (error[-1] + rise * np.cumsum(shares) / shares.sum()).tolist()
        order += left[first].tolist()
        alive[left[first]] = False
        if len(order) in keep_at:
            repaired[len(order)] = [(state.reads, state.repaired()) for state in states]
    return Curve(np.array(order), np.array(error), repaired)


def _until(gone: int, each: int, n: int, keep_at: Sequence[int]) -> int:
    """How many atoms go next: `each`, but no further than to where weights are asked for."""
    return min([each, n - gone, *(t - gone for t in keep_at if t > gone)])


class _State:
    """One reader under elimination: the inverse moment and the repaired weights of what is left."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        there = (reads.columns >= 0).any(1)  # other atoms are read by another block, if at all
        self.row = np.where(there, np.cumsum(there) - 1, -1)
        columns = reads.columns[there]
        extra = int((columns < 0).sum())
        d = reads.moment.shape[0]
        moment, weight = reads.moment.double(), reads.weight.double()
        if extra:  # inputs that are nobody's, and weigh nothing
            columns = columns.copy()
            columns[columns < 0] = d + np.arange(extra)
            moment = torch.block_diag(moment, torch.eye(extra, dtype=moment.dtype))
            weight = torch.nn.functional.pad(weight, (0, extra))
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
        self.weight = weight.clone()
        self.columns = torch.as_tensor(columns, dtype=torch.long)

    def scores(self, atoms: np.ndarray) -> np.ndarray:
        """Rise of the squared error without each of `atoms`."""
        rows = self.row[atoms]
        found = np.zeros(len(atoms))
        columns = self.columns[torch.as_tensor(rows[rows >= 0])]
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        w = self.weight[:, columns].permute(1, 2, 0)  # [atoms, c, neurons]
        found[rows >= 0] = torch.einsum("acn,acn->a", torch.linalg.solve(blocks, w), w).numpy()
        return found

    def repaired(self) -> Tensor:
        return self.weight[:, : self.reads.weight.shape[1]].clone()

    def remove(self, atoms: np.ndarray) -> float:
        """Take atoms away together; return the rise of the squared error."""
        rows = self.row[atoms]
        s = self.columns[torch.as_tensor(rows[rows >= 0])].reshape(-1)
        if len(s) == 0:
            return 0.0
        part, w = self.inverse[s], self.weight[:, s]
        gain = torch.linalg.solve(part[:, s], torch.cat([part, w.T], 1))
        gain, moved = gain[:, : part.shape[1]], gain[:, part.shape[1] :]
        self.weight.addmm_(w, gain, alpha=-1)
        self.inverse.addmm_(part.T, gain, alpha=-1)
        self.inverse[s], self.inverse[:, s] = 0.0, 0.0
        self.inverse[s, s] = 1.0  # keeps what is left solvable
        self.weight[:, s] = 0.0
        return float((moved * w.T).sum())
