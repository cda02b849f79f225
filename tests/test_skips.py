"""A skip that nobody named fails in CI, and none is skipped in both environments."""

from __future__ import annotations

from conftest import Skip, known_reasons, unexpected

KNOWN = {"could not import 'torchvision": "second environment: has it", "no data here": "never in CI"}


def test_what_is_named_passes() -> None:
    skips = [Skip("a", "could not import 'torchvision': x", True), Skip("b", "no data here", False)]
    assert unexpected(skips, KNOWN, in_second=False) == []


def test_what_is_not_named_fails() -> None:
    assert unexpected([Skip("a", "no wish to", True)], KNOWN, in_second=False) == [
        "a: no wish to: not in tests/skips.txt"
    ]


def test_no_test_is_skipped_in_both() -> None:
    reason = "could not import 'torchvision': x"
    (unmarked,) = unexpected([Skip("a", reason, False)], KNOWN, in_second=False)
    (there,) = unexpected([Skip("a", reason, True)], KNOWN, in_second=True)
    assert "runs nowhere" in unmarked
    assert "should have it" in there


def test_every_named_reason_has_a_why() -> None:
    known = known_reasons()
    assert all(len(reason) > 8 and len(why) > 8 for reason, why in known.items())
