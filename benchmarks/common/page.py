"""A page that people wrote, with tables that rows made: only the tables are replaced."""

from __future__ import annotations


def between(text: str, start: str, end: str, new: str) -> str:
    """Return `text` with what stands between `start` and the first `end` after it replaced by `new`."""
    head, found, rest = text.partition(start)
    _, mark, tail = rest.partition(end)
    if not (found and mark):
        raise ValueError(f"the page has no part from {start!r} to {end!r}")
    return head + start + new + mark + tail
