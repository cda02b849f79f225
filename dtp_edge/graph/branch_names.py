"""What a person calls a branch: the module that adds, else the deepest module that holds all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from torch import fx

from dtp_edge.ops.nodes import owner


def branch_names(
    found: Sequence[tuple[fx.Node, Sequence[fx.Node]]], weight: Callable[[fx.Node], int]
) -> list[str]:
    """Return a name for each (addition, nodes): none twice.

    `layer2.1` where that module adds one branch of its own; where it adds several, or holds more than the
    branch, the deepest module that holds all of it; where two would still be called the same, their
    heaviest parts (`blocks.3.attn`, `blocks.3.mlp`).
    """
    calls = [[n for n in nodes if n.op == "call_function"] for _, nodes in found]
    held = [_common([owner(n) for n in nodes if owner(n)] or [""]) for nodes in calls]
    adders = [owner(addition) for addition, _ in found]
    names = []
    for adder, common in zip(adders, held, strict=True):
        alone = adder and adders.count(adder) == 1 and _within(common, adder)
        names.append(adder if alone else common)
    counts = Counter(names)
    for i, name in enumerate(names):
        if counts[name] > 1 or not name:
            names[i] = _heaviest(name, calls[i], weight) or name or found[i][0].name
    return _distinct(names)


def _common(paths: Sequence[str]) -> str:
    parts = [p.split(".") for p in paths]
    same = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        same.append(level[0])
    return ".".join(same)


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


def _heaviest(common: str, calls: Sequence[fx.Node], weight: Callable[[fx.Node], int]) -> str:
    """Return the module right below `common` with most weights in the branch, "" where there is none."""
    start = len(common.split(".")) if common else 0
    total: Counter[str] = Counter()
    for node in calls:
        parts = owner(node).split(".")
        if owner(node) and len(parts) > start:
            total[".".join(parts[: start + 1])] += 1 + weight(node)
    return total.most_common(1)[0][0] if total else ""


def _distinct(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return result
