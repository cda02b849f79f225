"""Which nodes of a graph serve one operand of an addition alone: post-dominance.

A node is post-dominated by an edge if each of its paths to an output goes through that edge. Nodes without
readers (in-place writes whose result nobody names) have an effect of their own and count as outputs.

The tree of immediate post-dominators is built in one pass from the outputs to the inputs, as in Cooper,
Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001); a graph without loops needs no iteration.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

Edge = tuple[fx.Node, int]  # an addition and the position of an operand


class PostDominance:
    """The post-dominator tree of `graph`, with the operand edges of `additions` as places in it."""

    def __init__(self, graph: fx.Graph, additions: Collection[fx.Node]) -> None:
        self._nodes = [node for node in graph.nodes if node.op != "output"]
        split = set(additions)
        order: list[fx.Node | Edge] = []
        for node in self._nodes:
            if node in split:
                order += [(node, 0), (node, 1)]
            order.append(node)
        self._place = {what: i for i, what in enumerate(order)}
        self._parent = [-1] * len(order)  # -1: the outputs
        self._depth = [1] * len(order)
        self._inside: list[list[int]] = [[] for _ in order]
        for i in range(len(order) - 1, -1, -1):
            what = order[i]
            followers: list[fx.Node | Edge] = [what[0]] if isinstance(what, tuple) else _readers(what, split)
            places = [-1 if f.op == "output" else self._place[f] for f in _nodes(followers)]
            places += [self._place[f] for f in followers if isinstance(f, tuple)]
            self._parent[i] = self._meeting(places)
            self._depth[i] = 1 + (self._depth[self._parent[i]] if self._parent[i] >= 0 else 0)
        for i, parent in enumerate(self._parent):
            if parent >= 0:
                self._inside[parent].append(i)
        self._order = order

    def serving(self, addition: fx.Node, operand: int) -> list[fx.Node]:
        """Return the nodes that serve this operand alone, in the graph's order."""
        found, open_places = [], [self._place[addition, operand]]
        while open_places:
            inside = self._inside[open_places.pop()]
            open_places += inside
            found += inside
        return [n for i in sorted(found) if isinstance(n := self._order[i], fx.Node)]

    def _meeting(self, places: list[int]) -> int:
        """Return where the ways from all places to the outputs first meet."""
        if not places:
            return -1
        at = places[0]
        for other in places[1:]:
            while at != other:
                deeper = self._depth_of(at) >= self._depth_of(other)
                if deeper:
                    at = self._parent[at]
                else:
                    other = self._parent[other]
        return at

    def _depth_of(self, place: int) -> int:
        return 0 if place < 0 else self._depth[place]


def _nodes(followers: list[fx.Node | Edge]) -> list[fx.Node]:
    return [f for f in followers if isinstance(f, fx.Node)]


def _readers(node: fx.Node, split: set[fx.Node]) -> list[fx.Node | Edge]:
    found: list[fx.Node | Edge] = []
    for user in node.users:
        if user in split:
            found += [(user, i) for i in (0, 1) if user.args[i] is node]
        else:
            found.append(user)
    return found
