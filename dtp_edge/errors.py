"""Errors that own their exit code and say what was wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class DtpEdgeError(Exception):
    """Root of every error that dtp_edge raises on purpose.

    **Arguments:**

    - `what`: one sentence that says what is wrong.
    - `where`: the file, option, layer or JSON path at fault, if there is one.
    - `hint`: one sentence that says what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(self.message())

    def message(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.hint:
            lines.append(self.hint)
        return "\n".join(lines)


class InputError(DtpEdgeError):
    """Something that the user gave cannot be used: a file, an option, a network, a profile."""

    exit_code = 2


class UnsupportedError(InputError):
    """A network, runtime or precision that this version refuses, with the reason."""


class BudgetError(DtpEdgeError):
    """The budget cannot be reached.

    `rows` holds one mapping a metric: `metric`, `asked`, `smallest`, `dense`, `unit`, `blocked_by`.
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        rows: Sequence[dict[str, object]] = (),
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.rows = list(rows)
        super().__init__(what, where=where, hint=hint)


class CheckError(DtpEdgeError):
    """A proof failed: the result is not what was promised, so nothing finished is left behind."""

    exit_code = 4


class Interrupted(DtpEdgeError):
    """The user stopped the run; its checkpoint is kept."""

    exit_code = 130


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names closest to `name`, best first: spelt like it, or with it inside."""
    known = list(known)
    plain = {one: _letters(one) for one in known}
    wanted = _letters(name)
    inside = [one for one in known if wanted and wanted in plain[one]]
    spelt = difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.6)
    if not inside and not spelt and wanted:
        spelt = difflib.get_close_matches(name, known, n=count, cutoff=0.4)
    return list(dict.fromkeys([*spelt, *inside]))[:count]


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
