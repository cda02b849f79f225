"""Where CI is set, a test may be skipped only for a reason in `skips.txt`; any other one fails the run.

A reason that is marked "second environment" holds for tests that bear the marker `more`, and not in that
environment (`go.py test-more`): so no test is skipped in both.
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KNOWN = Path(__file__).with_name("skips.txt")
SECOND = "second environment"


@dataclass(frozen=True)
class Skip:
    """A test that was skipped: why, and whether it is one of the second environment."""

    test: str
    reason: str
    more: bool


def known_reasons() -> dict[str, str]:
    """Return `{beginning of a reason: why that is all right}`: the lines of the file, parted by ` | `."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    parts = [line.split(" | ", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {reason.strip(): why.strip() for reason, why in parts}


def unexpected(skips: list[Skip], known: dict[str, str], *, in_second: bool) -> list[str]:
    """Return a line for every skip that must not be, given the reasons that are known."""
    found = []
    for skip in skips:
        why = next((why for begin, why in known.items() if skip.reason.startswith(begin)), None)
        if why is None:
            found.append(f"{skip.test}: {skip.reason}: not in tests/skips.txt")
        elif why.startswith(SECOND) and in_second:
            found.append(f"{skip.test}: {skip.reason}: this is the environment that should have it")
        elif why.startswith(SECOND) and not skip.more:
            found.append(f"{skip.test}: {skip.reason}: runs nowhere, mark it `more`")
    return found


def _reason(longrepr: Any) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what torch and its like have made out of the collector's sight: it would walk a million objects.

    Every phase of a training run and every full collection of Python's own would: half a small run's time.
    """
    gc.collect()
    gc.freeze()


class NamedSkips:
    """Hears of every report, in the process that the others report to where several run the tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.skips: list[Skip] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skips.append(Skip(report.nodeid, _reason(report.longrepr), "more" in report.keywords))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole file: its marks are not known
            self.skips.append(Skip(report.nodeid, _reason(report.longrepr), False))

    def faults(self) -> list[str]:
        in_second = self.config.option.markexpr == "more"
        return list(dict.fromkeys(unexpected(self.skips, known_reasons(), in_second=in_second)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and self.faults():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if found := self.faults():
            terminalreporter.section("skipped, and must not be")
            for line in found:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NamedSkips(config), "named-skips")
