"""What an addition can do without: branches, their gates, and what a closed gate takes with it.

For `y = add(a, b)` the branch of `b` is what only serves that operand. Without it `y = a`. Branches of one
network form a forest (`parent`); where both operands of an addition have one they are each other's `twin`.

**How gates are written down.** Each branch is one more group, of kind "branch", with one atom: its gate.
These groups come after all groups of channels, so a network without branches, or traced without `depth`, has
the atoms, keep vectors and files that it always had. A mask is `[n_atoms]` as before; `y = a + z b` for the
mask z of the gate. The floor of such a group is 0 (`Group.floor`), of every other one 1.

A gate that is 0 closes its branch and every branch within. Groups that lie wholly within (`Branch.groups`)
then have no width, whatever their atoms say: `settled` gives the keep vector in its one canonical form (their
atoms False), `opened` the one to compute with (their atoms True, so that no norm runs over nothing). Both
forms mean the same to masks, costs, surgery and widths. `fault` says which keep vectors mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dtp_edge.ops.refusal import Code, Refusal

if TYPE_CHECKING:
    from dtp_edge.graph.network import Frozen, Group


@dataclass(frozen=True)
class Branch:
    """One branch. Nodes go by name; indices count `PrunableNetwork.branches` and `.groups`.

    **Attributes:**

    - `name`: as a person would say it: `layer2.1`, `blocks.3.mlp`.
    - `addition`, `operand`: the node that adds, and which of its two arguments the branch is.
    - `stays`: the node that takes the addition's place without the branch.
    - `nodes`: what serves the branch alone, parameters too.
    - `repeats`: an activation behind the addition that does nothing to what stays (relu of a relu's output).
    - `parent`: the smallest branch that this one lies in, None at the top.
    - `twin`: the branch of the addition's other operand, None where that has none.
    - `atom`: its gate; `group`: the group of that atom.
    - `groups`: the groups that lie wholly within, gates of branches within among them.
    - `parameters`: names of the parameters and buffers that only it reads.
    """

    name: str
    addition: str
    operand: int
    stays: str
    nodes: tuple[str, ...]
    repeats: tuple[str, ...]
    parent: int | None
    twin: int | None
    atom: int
    group: int
    groups: tuple[int, ...]
    parameters: tuple[str, ...]

    @property
    def gone(self) -> tuple[str, ...]:
        """The nodes that a closed gate takes away."""
        return (*self.nodes, self.addition, *self.repeats)


@dataclass(frozen=True)
class Depth:
    """The branches of a network, the additions that have none and why, and the nodes that cost something."""

    branches: tuple[Branch, ...] = ()
    refused: tuple[Frozen, ...] = ()
    costing: frozenset[str] = frozenset()

    def chain(self, index: int) -> list[int]:
        """Return a branch and all that it lies in, the innermost first."""
        found: list[int] = []
        at: int | None = index
        while at is not None:
            found.append(at)
            at = self.branches[at].parent
        return found

    def closed(self, keep: np.ndarray) -> list[int]:
        """Return the branches that a keep vector closes, by their own gate or by one around it."""
        off = {i for i, b in enumerate(self.branches) if not keep[b.atom]}
        return [i for i in range(len(self.branches)) if off and not off.isdisjoint(self.chain(i))]

    def settled(self, keep: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
        """Return the keep vector with nothing kept in a closed branch."""
        return self._set(keep, groups, False)

    def opened(self, keep: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
        """Return the keep vector (or mask) with all channels in closed branches kept: none of them counts."""
        return self._set(keep, groups, True)

    def _set(self, keep: np.ndarray, groups: Sequence[Group], value: bool) -> np.ndarray:
        closed = self.closed(keep)
        if not closed:
            return keep
        result = np.array(keep, copy=True)
        for index in closed:
            for inside in self.branches[index].groups:
                group = groups[inside]
                if group.kind != "branch" or not value:
                    result[group.start : group.stop] = value
            result[self.branches[index].atom] = False
        return result

    def gone(self, keep: np.ndarray) -> set[str]:
        """Return the names of the nodes that closed branches take away."""
        return {name for index in self.closed(keep) for name in self.branches[index].gone}

    def fault(self, keep: np.ndarray) -> Refusal | None:
        """Return why a keep vector leaves no network; None if it does.

        Of an addition whose operands both have a branch one must stay, or its output would depend on no
        input; and something must be left that computes.
        """
        closed = set(self.closed(keep))
        for index in sorted(closed):
            branch = self.branches[index]
            inside = branch.parent in closed
            if branch.twin in closed and not inside:
                other = self.branches[branch.twin].name
                text = f"{branch.name} and {other} are all that is added there: one of them must stay"
                return Refusal(Code.LAST, branch.addition, text)
        if closed and self.costing and self.costing <= self.gone(keep):
            return Refusal(Code.LAST, "", "nothing would be left that computes")
        return None
