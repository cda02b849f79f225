"""The traced graph is rewritten to say more clearly what it does, and computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dtp_edge.graph import trace_network
from dtp_edge.ops.nodes import op_name


class Net(nn.Module):
    """Two convolutions with a function between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


def nodes(graph: fx.GraphModule, name: str) -> list[fx.Node]:
    return [n for n in graph.graph.nodes if n.op == "call_function" and op_name(n) == name]


def traced(model: nn.Module, *shape: int) -> tuple[fx.GraphModule, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(*shape)
    graph = trace_network(model.eval(), x).graph_module
    for batch in (shape[0], 3):
        y = torch.randn(batch, *shape[1:])
        torch.testing.assert_close(graph(y), model(y))
    return graph, x


def shuffle(x: Tensor, groups: int = 3) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def test_a_channel_shuffle_is_one_look_up() -> None:
    graph, _ = traced(Net(shuffle), 2, 3, 7, 7)
    (look_up,) = nodes(graph, "index_select")
    index = getattr(graph, str(look_up.args[2].target))
    assert look_up.args[1] == 1
    assert index.tolist() == [0, 2, 4, 1, 3, 5]
    assert not nodes(graph, "transpose")
    assert not nodes(graph, "permute")


def test_a_look_up_does_not_tie_channels_together() -> None:
    network = trace_network(Net(shuffle).eval(), torch.randn(2, 3, 7, 7))
    (group,) = [g for g in network.groups if g.name.startswith("a")]
    assert group.stop - group.start == 6


def test_a_move_that_is_no_look_up_stays() -> None:
    """Height and width change places: no index along one dimension says that."""
    graph, _ = traced(Net(lambda x: x.transpose(2, 3).contiguous().relu()), 2, 3, 7, 7)
    assert not nodes(graph, "index_select")
    assert nodes(graph, "transpose")


def test_moves_that_cancel_leave_a_copy() -> None:
    graph, _ = traced(Net(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), 2, 3, 7, 7)
    assert not nodes(graph, "permute")
    assert len(nodes(graph, "clone")) == 1


@pytest.mark.parametrize("given", [None, 0.3])
def test_attention_states_the_scale_of_its_dense_heads(given: float | None) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            return self.out(F.scaled_dot_product_attention(q, k, v, scale=given))

    graph, _ = traced(Attention(), 2, 4, 5)
    (node,) = nodes(graph, "scaled_dot_product_attention")
    assert node.kwargs["scale"] == pytest.approx(given or 1 / math.sqrt(6))


def test_a_size_that_is_computed_from_the_batch_becomes_minus_one() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).reshape(x.shape[0] * 2, 4))

    graph, _ = traced(Flat(), 2, 6)
    sizes = [n.args[1] for name in ("view", "reshape", "_unsafe_view") for n in nodes(graph, name)]
    assert [list(s) for s in sizes] == [[-1, 4]]
    assert not [n for n in graph.graph.nodes if n.op == "call_function" and op_name(n).startswith("sym_size")]
