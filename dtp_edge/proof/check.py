"""One proof as a value, and what is raised when proofs fail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dtp_edge.errors import REPORT, CheckError


@dataclass(frozen=True)
class Check:
    """One proof: `value` is what was measured (relative error), `limit` what it may be at most.

    `hint` is what the user can do where it failed; "" if that is a fault of ours, to be reported.
    """

    name: str
    passed: bool
    value: float
    limit: float
    detail: str = ""
    hint: str = ""


def require(checks: Iterable[Check]) -> None:
    """Raise `CheckError` naming every check that failed."""
    failed = [c for c in checks if not c.passed]
    if failed:
        lines = [
            f"{c.name}: {c.value:.3g}, may be at most {c.limit:.3g}. {c.detail}".rstrip() for c in failed
        ]
        raise CheckError(
            "the result is not what was promised: " + "; ".join(lines),
            hint=next((c.hint for c in failed if c.hint), REPORT),
        )
