"""Rows that no name and no count joins, by where they stand: between the rows of two kernels that are joined
run the kernels between these.

A norm that a runtime spells out as five operators, a concatenation that it makes of copies, a shuffle of
channels: as many rows as it likes, for kernels that have none. Padding belongs to what comes next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dtp_edge.measure.printout import Printout

__all__ = ["places_of"]


def places_of(
    printout: Printout,
    home: Mapping[int, int],
    loose: Collection[int],
    moved: Mapping[int, float],
    kernels: int,
) -> dict[int, dict[int, float]]:
    """Return `{row: {kernel: share of its time}}` for rows by their id that can be placed.

    `home` has the kernel of each row that is joined, `loose` are the others, `moved` says of the kernels
    without a row how many values each moves: between them the time of all rows there is shared so.
    """
    following, after = {}, kernels
    for row in reversed(printout.rows):
        after = home.get(id(row), after)
        following[id(row)] = after
    found: dict[int, dict[int, float]] = {}
    free: dict[tuple[int, int], list[int]] = {}
    before = -1
    for row in printout.rows:
        before = home.get(id(row), before)
        if id(row) not in loose:
            continue
        gap = before, following[id(row)]
        if gap not in free:
            free[gap] = [i for i in range(gap[0] + 1, gap[1]) if i in moved]
        total = sum(moved[i] for i in free[gap])
        if total > 0:
            found[id(row)] = {i: moved[i] / total for i in free[gap]}
        elif "pad" in row.type.lower() and gap[0] < gap[1] < kernels:
            found[id(row)] = {gap[1]: 1.0}
    return found
