"""Fixtures for the report: the made-up report, as small or as large as a test needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("report_example", Path(__file__).with_name("example.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture
def make_report() -> Callable[..., dict[str, Any]]:
    return _module.example_report


@pytest.fixture
def report(make_report: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return make_report()
