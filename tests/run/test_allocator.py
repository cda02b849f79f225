"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
import weakref
from pathlib import Path

import pytest

from dtp_edge.run.allocator import give_back


class _Ring:
    def __init__(self) -> None:
        self.own = self


def test_what_holds_itself_goes() -> None:
    found = weakref.ref(_Ring())
    give_back()
    assert found() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_what_the_allocator_keeps_goes() -> None:
    held = [bytearray(100_000) for _ in range(2000)]  # too small for a mapping each
    last = held[-1]  # at the end of the heap: nothing before it goes by itself
    before = _resident_bytes()
    del held
    give_back()
    assert _resident_bytes() < before - 150_000_000
    assert len(last) == 100_000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
