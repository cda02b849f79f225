"""What to change where an operator stays behind: known ways to say the same so that a unit takes it."""

from __future__ import annotations

# (format, part of the operator's name, what to do)
_KNOWN: tuple[tuple[str, str, str], ...] = ()


def advice_for(format_name: str, kind: str) -> str:
    """Return what to change for an operator that a format's unit does not take; "" where nothing is known."""
    word = kind.lower()
    return next((text for name, part, text in _KNOWN if name == format_name and part in word), "")
