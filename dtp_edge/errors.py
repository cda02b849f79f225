"""Errors that own their exit code and say what was wrong, where, and what to do next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

REPORT = "Please report this network: it should have been pruned exactly or refused."


def first_line(error: BaseException, *, kind: bool = False) -> str:
    """Return the first line of an error's text (with `kind` after its class), or its class alone."""
    lines, name = str(error).strip().splitlines(), type(error).__name__
    if not lines:
        return name
    return f"{name}: {lines[0][:300]}" if kind else lines[0][:300]


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


class InputError(DtpEdgeError, ValueError):
    """Something that the user gave cannot be used: a file, an option, a network, a profile.

    It is a ValueError too, as Python's own refusals of a value are.
    """

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
    import difflib  # here and below: slow to import, and only wanted where something is wrong

    known = list(known)
    plain = {one: _letters(one) for one in known}
    wanted = _letters(name)
    inside = [one for one in known if wanted and wanted in plain[one]]
    spelt = difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.6)
    if not inside and not spelt and wanted:
        spelt = difflib.get_close_matches(name, known, n=count, cutoff=0.4)
    return list(dict.fromkeys([*spelt, *inside]))[:count]


def require_file(path: Path, hint: str) -> None:
    """Raise `InputError` unless `path` is an ordinary file: no folder, no pipe, no device."""
    if path.is_file():
        return
    what = "is a pipe or a device, not a file" if os.path.exists(path) else "there is no such file"
    raise InputError("is a folder, not a file" if path.is_dir() else what, where=str(path), hint=hint)


def users_line(error: BaseException | None) -> str | None:
    """Return `FILE, line N, in FUNCTION (the line)` of the innermost frame that is the user's own.

    That is: not torch's, not dtp_edge's, not the standard library's, and another installed package's only
    where nothing else is; None if there is none.
    """
    import linecache
    import sysconfig
    import traceback

    library, installed = Path(sysconfig.get_path("stdlib")), None
    while error is not None:
        for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
            file, name = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
            standard = Path(file).is_relative_to(library) and "site-packages" not in file
            if file.startswith("<") or standard or name.partition(".")[0] in ("torch", "dtp_edge"):
                continue
            code = linecache.getline(file, number).strip()
            with contextlib.suppress(ValueError):
                file = str(Path(file).relative_to(Path.cwd()))
            found = f"{file}, line {number}, in {frame.f_code.co_name}{f' ({code})' if code else ''}"
            if "site-packages" not in frame.f_code.co_filename:
                return found
            installed = installed or found
        error = error.__cause__ or error.__context__
    return installed


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
