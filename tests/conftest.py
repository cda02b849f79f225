"""Where CI is set, a test may be skipped only for a reason in `skips.txt`; any other one fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

KNOWN = Path(__file__).with_name("skips.txt")
SKIPPED = pytest.StashKey[dict[str, str]]()


def known_reasons() -> list[str]:
    """Return the beginnings of the reasons that are known: the lines of the file up to ` | `."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [line.split(" | ")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[SKIPPED][report.nodeid] = _reason(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    if report.skipped:
        collector.config.stash[SKIPPED][report.nodeid] = _reason(report.longrepr)
    return report


def _reason(longrepr: Any) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and exitstatus == pytest.ExitCode.OK and unknown(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if os.environ.get("CI") and (found := unknown(config)):
        terminalreporter.section("skipped for a reason that tests/skips.txt does not name")
        for test, reason in found.items():
            terminalreporter.line(f"{test}: {reason}")


def unknown(config: pytest.Config) -> dict[str, str]:
    known = known_reasons()
    skipped = config.stash[SKIPPED]
    return {test: why for test, why in skipped.items() if not any(why.startswith(k) for k in known)}
