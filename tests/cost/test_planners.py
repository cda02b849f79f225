"""Memory as other runtimes plan it: against their own plans of whole networks, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge import load_profile, zoo
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.planners import PLANNERS, RuntimePlan, buckets, gaps, planner_of
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.run.further_formats import wanted_formats
from dtp_edge.run.options import Options
from dtp_edge.run.task import Task
from dtp_edge.transport import Budget

# What the runtimes planned for these networks, fp32: ExecuTorch 1.5.1's memory plan with portable kernels,
# and the arena of LiteRT 2.3.0's reference kernels (29 November 2026: `to_pte.planned`, `on_litert.inspect`).
PLANNED = {
    "dscnn": (64_000, 65_984),
    "resnet8": (196_608, 241_664),
    "mobilenetv1_vww": (294_912, 418_048),
    "mobilenetv2": (9_633_792, 10_409_472),
    "resnet20": (196_608, 208_896),
    "silu": (147_456, 138_240),
    "pool": (131_072, None),  # not converted to LiteRT
    "line": (64_000, 95_744),
}


class Silu(nn.Module):
    """Activations that runtimes split, a residual, a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, 2, 1)
        self.d = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.b = nn.Conv2d(16, 16, 1)
        self.h = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.a(x))
        x = x + self.b(nn.functional.hardswish(self.d(x)))
        return self.h(torch.sigmoid(x).mean((2, 3)))


def network(name: str):
    torch.manual_seed(0)
    if name == "pool":
        layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 8, 1))
        return trace_network(nn.Sequential(*layers).eval(), (torch.randn(2, 3, 32, 32),))
    if name == "line":
        layers = (nn.Conv1d(1, 16, 80, 16), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(16, 8, 3))
        return trace_network(nn.Sequential(*layers).eval(), (torch.randn(2, 1, 8000),))
    if name == "silu":
        return trace_network(Silu().eval(), (torch.randn(2, 3, 48, 48),))
    return trace_network(zoo.create(name).eval(), (zoo.example_input(name),))


def dense(net) -> np.ndarray:
    return np.array([len(w) for w in net.layers.widths], dtype=float)


@pytest.mark.parametrize("name", PLANNED)
def test_the_arena_is_what_the_runtime_plans(name: str) -> None:
    net = network(name)
    for runtime, planned in zip(("executorch", "litert"), PLANNED[name], strict=True):
        found = RuntimePlan(net.layers, PLANNERS[runtime], "fp32").arena_bytes(dense(net))
        assert planned in (found, None), runtime


@pytest.mark.parametrize("runtime", PLANNERS)
def test_live_bytes_bound_the_arena_and_grow_with_widths(runtime: str) -> None:
    net, profile = network("resnet8"), load_profile("rpi4-ncnn-fp32-1t")
    cost = NetworkCost(net.layers, profile, planner=planner_of(runtime))
    plan = RuntimePlan(net.layers, planner_of(runtime), "fp32")
    sizes = cost.dense_sizes()
    last = 0.0
    for share in (0.25, 0.5, 0.75, 1.0):
        now = np.ceil(share * sizes)
        live = cost.evaluate(now)["peak_ram_bytes"]
        assert live <= plan.arena_bytes(now) <= 1.3 * live
        assert live > last
        last = live
    assert (
        cost.evaluate(sizes)["latency_ms"] == NetworkCost(net.layers, profile).evaluate(sizes)["latency_ms"]
    )
    assert cost.gradient(sizes, "peak_ram_bytes").sum() > 0


def test_a_padded_copy_stands_before_convolutions_that_same_cannot_say() -> None:
    def steps(*convolution: int, size: int = 8) -> list[str]:
        net = trace_network(
            nn.Sequential(nn.Conv2d(3, 4, *convolution)).eval(), (torch.randn(2, 3, size, size),)
        )
        return [layer.op.rsplit("::", 1)[-1] for layer in planner_of("litert").steps(net.layers).layers]

    padded = ["pad", "conv2d"]
    assert steps(3, 2, 1) == padded  # SAME pads an even picture after it alone
    assert steps(3, 2, 1, size=9) == ["conv2d"]
    assert steps(3, 1, 1) == ["conv2d"]
    assert steps(3, 1, 0) == ["conv2d"]
    assert steps(3, 1, 2) == padded
    assert steps(3, 1, 2, 2) == ["conv2d"]  # dilated
    layers = network("resnet8").layers
    assert planner_of("executorch").steps(layers).layers == layers.layers


def test_placements_by_hand() -> None:
    # three tensors in a chain: the third takes the place of the first
    chain = [(64, 0, 1), (128, 1, 2), (64, 2, 3)]
    assert buckets(chain) == gaps(chain) == 192
    # one that lives throughout stays at the front; a gap between two others is filled
    assert gaps([(64, 0, 3), (128, 0, 1), (64, 1, 2), (64, 2, 3)]) == 256
    # a bucket takes several that are alive together, if they fit side by side
    assert buckets([(256, 0, 0), (128, 1, 2), (128, 1, 2)]) == 256
    assert buckets([(256, 0, 0), (192, 1, 2), (128, 1, 2)]) == 384
    assert buckets([]) == gaps([]) == 0


@pytest.mark.parametrize("place", [buckets, gaps])
def test_no_placement_is_below_what_is_alive(place) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = rng.integers(0, 20, 15)
        tensors = [(64 * int(rng.integers(1, 9)), int(a), int(a + rng.integers(0, 6))) for a in starts]
        alive = max(sum(size for size, a, b in tensors if a <= step <= b) for step in range(26))
        assert alive <= place(tensors) <= 2 * alive


def test_a_budget_in_ram_is_held_by_the_runtimes_plan() -> None:
    wanted = wanted_formats("pte", None, "executorch")
    options = Options(Budget(ram="100%"), device="rpi4-ncnn-fp32-1t", formats=wanted)
    x = (torch.randn(2, 3, 48, 48),)
    task = Task.trace(Silu().eval(), x, options)
    assert task.limits["peak_ram_bytes"] == 147_456
    own = Task.trace(Silu().eval(), x, Options(Budget(ram="100%"), device="rpi4-ncnn-fp32-1t"))
    assert own.limits["peak_ram_bytes"] < 147_456
    with pytest.raises(InputError, match="how openvino plans"):
        planner_of("openvino")
