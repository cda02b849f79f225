"""A minute of nearly good files: each is read or refused with a next step, whatever is in it.

`python tools/fuzz.py --minutes 60` goes on for as long as there is time.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from helpers.fuzz_inputs import TARGETS, attempt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FEW = {"onnx": 40, "pruned": 100, "checkpoint": 150, "report": 80, "table": 150}
MANY = int(os.environ.get("DTP_EDGE_FUZZ", "1"))


@pytest.mark.parametrize("target", TARGETS)
def test_nearly_good_files_are_read_or_refused(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Counter[str] = Counter()

    @settings(
        max_examples=MANY * FEW.get(target, 250),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32 - 1))
    def run(seed: int) -> None:
        found[attempt(target, seed, tmp_path)] += 1

    run()
    with capsys.disabled():
        print(f" [{target}: {found['read']} read, {found['refused']} refused]", end="")
    assert found["refused"] >= 5  # the changes do reach what is checked
    assert found["read"] + found["refused"] >= FEW.get(target, 250) // 2
