"""Keep what a library prints off the terminal, in this thread alone: others go on printing."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Hushed:
    """Stands for a stream: what the thread that made it writes is kept, as long as it is on."""

    def __init__(self, under: Any) -> None:
        self.under, self.heard, self.on = under, io.StringIO(), True
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        mine = self.on and threading.get_ident() == self._thread
        return (self.heard if mine else self.under).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)


@contextmanager
def hushed(stream: str = "stderr") -> Iterator[io.StringIO]:
    """Keep what this thread writes to `sys.stderr` (or `sys.stdout`) in the block; yield what was kept."""
    stand_in = _Hushed(getattr(sys, stream))
    setattr(sys, stream, stand_in)
    try:
        yield stand_in.heard
    finally:
        stand_in.on = False
        if getattr(sys, stream) is stand_in:  # else another thread stands on top: we only pass on
            setattr(sys, stream, stand_in.under)
