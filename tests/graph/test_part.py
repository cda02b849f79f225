"""A part of a network: what the whole gives it, what stands in its place, and parts that cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph.part import Whole


class Body(nn.Module):
    out_channels = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor, scale: Tensor | None = None, *, flag: bool = False) -> dict[str, Tensor]:
        y = self.conv(x)
        return {"y": y if scale is None else y * scale}


class Detector(nn.Module):
    """Its answer depends on numbers of the image, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.twice = Body(), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(self.body.out_channels, 4)
        self.unused, self.words = nn.Linear(2, 2), Words()

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        x = torch.stack(images)
        y = self.body(x, scale=torch.full((1,), 2.0))["y"]
        y = self.twice(self.twice(y))
        rows = self.head(self.words(y.mean((2, 3)), "word"))
        return [row[row > row.mean()] for row in rows] + [torch.tensor([float(self.body.out_channels)])]


class Words(nn.Module):
    def forward(self, x: Tensor, kind: str) -> Tensor:
        return x + len(kind)


IMAGES = ([torch.rand(3, 8, 8), torch.rand(3, 8, 8)],)


def test_inputs_are_those_that_the_whole_gives() -> None:
    net = Detector().eval()
    whole = Whole.of(net, "body", IMAGES)
    assert torch.equal(whole.inputs[0], torch.stack(IMAGES[0]))
    assert torch.equal(whole.inputs[1], torch.full((1,), 2.0))
    found = whole.inputs_of([torch.zeros(3, 8, 8)])
    assert torch.equal(found[0], torch.zeros(1, 3, 8, 8))
    assert whole.module.body is whole.part  # put back
    assert whole.part is not net.body


def test_what_stands_in_its_place_is_called_as_it_was() -> None:
    whole = Whole.of(Detector().eval(), "body", IMAGES)
    wanted = whole.module(*IMAGES)
    seen: list[Any] = []

    class Graph(nn.Module):
        def forward(self, x: Tensor, scale: Tensor) -> Any:
            seen.append(scale)
            return whole.part(x, scale)

    copied = whole.around(Graph())
    for one, two in zip(copied(*IMAGES), wanted, strict=True):
        assert torch.equal(one, two)
    assert seen
    assert "body.run" in dict(copied.named_modules())


def test_what_follows_the_part_alone_is_differentiable() -> None:
    """The gradient by the part's output, with the output as a leaf, is the whole's own."""
    whole = Whole.of(Detector().eval(), "body", IMAGES)
    own = whole.part(*whole.inputs)
    leaf = {"y": own["y"].detach().clone().requires_grad_()}
    with whole.answering(leaf) as rest:
        sum(row.sum() for row in rest(*IMAGES)).backward()
    own["y"].retain_grad()
    with whole.answering(own) as rest:
        sum(row.sum() for row in rest(*IMAGES)).backward()
    assert float(leaf["y"].grad.abs().max()) > 0
    assert torch.equal(leaf["y"].grad, own["y"].grad)
    assert whole.part.conv.weight.grad is not None


def test_the_rest_is_everything_else() -> None:
    whole = Whole.of(Detector(), "body", IMAGES)
    assert sorted({name.partition(".")[0] for name in whole.rest()}) == ["head", "twice", "unused"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("bodi", InputError, "Did you mean body"),
        ("", InputError, "no part ''"),
        ("nothing", InputError, "There are body"),
        ("unused", InputError, "never called"),
        ("twice", UnsupportedError, "2 times"),
        ("words", UnsupportedError, "takes str"),
    ],
)
def test_parts_that_cannot_be_had(path: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Whole.of(Detector(), path, IMAGES)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.words(x))


def test_a_shared_weight_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="shares a weight"):
        Whole.of(Tied(), "out", (torch.arange(3),))


def test_a_network_that_does_not_run_is_told() -> None:
    with pytest.raises(InputError, match="does not run on its example inputs"):
        Whole.of(Detector(), "body", (torch.rand(1, 1, 8, 8),))
