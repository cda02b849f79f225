"""The proof asks once what it needs to know: a training step is tried on the user's weights alone."""

from __future__ import annotations

import pytest
import torch
from helpers.keeps import random_keep

from dtp_edge.graph import trace_network
from dtp_edge.proof.equality import check_masked_equals_compact
from dtp_edge.surgery import compact, inplace


def test_a_training_step_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    convolutions = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1)
    net = torch.nn.Sequential(convolutions[0], torch.nn.BatchNorm2d(8), torch.nn.ReLU(), convolutions[1])
    network = trace_network(net.eval(), torch.randn(1, 3, 8, 8))
    tried: list[torch.nn.Module] = []
    own = inplace._trains

    def counted(module: torch.nn.Module, *rest: object) -> str | None:
        tried.append(module)
        return own(module, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(inplace, "_trains", counted)
    keep = random_keep(network, 0.6, 0)
    result = compact(network, keep)
    checks = [check_masked_equals_compact(network, keep, result, randomise=r) for r in (False, True)]
    assert result.kind == "module"
    assert all(check.passed for check in checks)
    assert tried == [result.module]
