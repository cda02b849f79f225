"""Where cut networks are compared: behind every residual addition, else at the ends of stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dtp_edge.graph import trace_network
from dtp_edge.graph.block_outputs import block_outputs
from dtp_edge.zoo import create


def modules_of(model: nn.Module, x: Tensor) -> list[str]:
    return [point.module for point in block_outputs(trace_network(model.eval(), (x,)))]


def test_every_block_of_a_residual_network() -> None:
    blocks = [f"layer{stage}.{i}" for stage in (1, 2, 3) for i in range(3)]
    assert modules_of(create("resnet20"), torch.randn(2, 3, 32, 32)) == blocks


def test_stages_where_nothing_is_added() -> None:
    names = modules_of(create("vgg19"), torch.randn(2, 3, 32, 32))
    assert len(names) >= 5
    assert all(name.startswith("features.") for name in names[:-1])


def test_a_module_called_twice_is_no_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(x + self.conv2(self.relu(self.conv1(x))))

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = Twice(), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(x))

    assert modules_of(Around(), torch.randn(2, 4, 5, 5)) == ["block"]
    assert modules_of(Twice(), torch.randn(2, 4, 5, 5)) == [""]


def test_position_embeddings_and_biases_are_no_blocks() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
            self.position = nn.Parameter(torch.randn(1, 5, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x) + self.position
            return self.last(x)

    assert modules_of(Embedded(), torch.randn(2, 5, 6)) == []
