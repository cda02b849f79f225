"""A runtime computes in as many threads as it was asked to; one with a thread a core is timed in vain."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from dtp_edge.runtimes.registry import RUNTIMES

POOL = "executorch.extension.pybindings.portable_lib"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """ExecuTorch's pool as the package has it: a thread a core until it is made anew."""
    module = ModuleType(POOL)
    module.threads, module.made = 8, 0  # type: ignore[attr-defined]

    def reset(threads: int) -> None:
        module.threads = threads  # type: ignore[attr-defined]
        module.made += 1  # type: ignore[attr-defined]

    module._unsafe_reset_threadpool = reset  # type: ignore[attr-defined]
    module._threadpool_get_thread_count = lambda: module.threads  # type: ignore[attr-defined]
    for name in ("executorch", "executorch.extension", "executorch.extension.pybindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, POOL, module)
    return module


def test_executorch_computes_in_the_threads_that_were_asked_for(pool: ModuleType) -> None:
    adapter = _adapter("executorch")
    adapter._limit_threads(1)
    assert pool.threads == 1
    adapter._limit_threads(1)  # a second file: the first one keeps the pool that it was given
    assert pool.made == 1


def test_a_pool_that_stays_as_it_is_is_refused(pool: ModuleType) -> None:
    pool._unsafe_reset_threadpool = lambda threads: None  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="8 threads, not in 2"):
        _adapter("executorch")._limit_threads(2)


def _adapter(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("adapter", RUNTIMES[name].adapter)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
