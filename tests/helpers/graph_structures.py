"""Small networks, one awkward structure each, with every weight, statistic and scale random.

The first part are the 29 structures on which other pruners were compared: for each of them a pruned
network must equal the masked one, or the structure must be left whole with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Structure:
    """`prunes`: at least one group of channels can go (else everything is frozen with a reason)."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    prunes: bool = True


STRUCTURES: dict[str, Structure] = {}


def structure(shape: tuple[int, ...], prunes: bool = True) -> Callable[[type], type]:
    def register(cls: type) -> type:
        name = cls.__name__
        STRUCTURES[name] = Structure(name, cls, shape, prunes)
        return cls

    return register


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter, batch-norm statistic and per-channel buffer at random, none of them 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                noise = noise.abs() * 0.5 + 0.5
            elif tensor.dim() > 1:
                noise = noise * (1.5 / max(1, tensor[0].numel())) ** 0.5
            else:
                noise = noise * 0.5 + (1.0 if name.endswith("weight") else 0.1)
            tensor.copy_(noise)
    return model


def build(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a random network of this structure in eval mode and an input of batch 2, in float64."""
    found = STRUCTURES[name]
    model = randomise(found.make().double(), seed).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    return model, torch.randn(2, *found.shape, generator=generator, dtype=torch.float64)


def conv(c_in: int, c_out: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, **options), nn.BatchNorm2d(c_out), nn.SiLU()
    )


class Net(nn.Module):
    """stem -> body -> pooled linear head; subclasses give the body."""

    def __init__(self, width: int, out: int | None = None) -> None:
        super().__init__()
        self.stem = conv(3, width)
        self.head = nn.Linear(out or width, 5)

    def body(self, x: Tensor) -> Tensor:
        raise AssertionError("a structure has a body")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


IMAGE = (3, 8, 8)


@structure(IMAGE)
class Residual(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b, self.c = conv(8, 6), conv(6, 8), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        x = x + self.b(self.a(x))
        return F.relu(x + self.c(x))


@structure(IMAGE)
class Concat(Net):
    def __init__(self) -> None:
        super().__init__(8, 14)
        self.a, self.b = conv(8, 6), conv(14, 8)
        self.bn = nn.BatchNorm2d(14)

    def body(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(torch.cat([x, self.a(x)], 1)))
        return torch.cat([self.b(x), x[:, :6]], 1)


@structure(IMAGE)
class Slice(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.a, self.b = conv(3, 6), conv(5, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(x[:, 3:])


@structure(IMAGE)
class Depthwise(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.a, self.b = conv(8, 8, groups=8), conv(8, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@structure(IMAGE)
class DepthwiseMultiplier(Net):
    def __init__(self) -> None:
        super().__init__(6, 8)
        self.a, self.b = conv(6, 12, groups=6), conv(12, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@structure(IMAGE)
class Grouped(Net):
    def __init__(self) -> None:
        super().__init__(16, 8)
        self.a, self.b = conv(16, 24, groups=4), conv(24, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@structure(IMAGE)
class Transposed(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.a = nn.ConvTranspose2d(8, 10, 3, stride=2)
        self.b = nn.ConvTranspose2d(10, 12, 2, groups=2)
        self.c = nn.Conv2d(12, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


@structure(IMAGE)
class SpaceToDepth(Net):
    def __init__(self) -> None:
        super().__init__(6, 8)
        self.a = conv(24, 8)

    def body(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.a(torch.cat(parts, 1))


@structure(IMAGE)
class FlattenLinear(Net):
    def __init__(self) -> None:
        super().__init__(6, 10)
        self.fc = nn.Linear(6 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(F.max_pool2d(self.stem(x), 2).flatten(1))))


@structure(IMAGE)
class SqueezeExcite(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(gate)


@structure(IMAGE)
class LayerScale(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = conv(8, 8)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def body(self, x: Tensor) -> Tensor:
        return x + self.scale * self.a(x)


@structure(IMAGE)
class StackSum(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.a, self.b = conv(8, 6), conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return torch.stack([self.a(x), self.b(x)], 0).sum(0)


@structure(IMAGE)
class WeightSharing(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.a = conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.a(self.a(x)) + x


@structure(IMAGE)
class OneChannelAttention(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.attention, self.b = nn.Conv2d(8, 1, 1), conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(x * torch.sigmoid(self.attention(x)))


@structure(IMAGE)
class GroupNorm(Net):
    def __init__(self) -> None:
        super().__init__(16, 8)
        self.norm, self.b = nn.GroupNorm(4, 16), conv(16, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.norm(x))


@structure(IMAGE)
class GroupNormWhole(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.norm, self.b = nn.GroupNorm(1, 8), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return x + self.b(self.norm(x))


@structure((6, 12))
class LayerNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(12, 10), nn.LayerNorm(10)
        self.b, self.head = nn.Linear(10, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + self.b(self.norm(x))
        return self.head(self.norm(x))


@structure((6, 12))
class FusedQkv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(12, 16), nn.LayerNorm(16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.head(x + self.out(y))


@structure(IMAGE)
class ChannelShuffle(Net):
    def __init__(self) -> None:
        super().__init__(12, 8)
        self.a, self.b = conv(12, 12, groups=3), conv(12, 8)

    def body(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        return self.b(x.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous().view(b, c, h, w))


@structure(IMAGE)
class OptionAShortcut(Net):
    def __init__(self) -> None:
        super().__init__(6, 12)
        self.a, self.b = conv(6, 12, stride=2), conv(12, 12)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3)) + self.a(x)))


@structure(IMAGE)
class Roll(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.a, self.b = conv(8, 8), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(torch.roll(self.a(x), 3, 1))


@structure(IMAGE)
class UnevenSplit(Net):
    def __init__(self) -> None:
        super().__init__(10, 8)
        self.a, self.b, self.c = conv(2, 8), conv(3, 8), conv(5, 8)

    def body(self, x: Tensor) -> Tensor:
        one, two, three = torch.split(x, [2, 3, 5], 1)
        return self.a(one) + self.b(two) * self.c(three)


@structure(IMAGE)
class PixelShuffle(Net):
    def __init__(self) -> None:
        super().__init__(16, 6)
        self.a, self.b = conv(16, 20), conv(5, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.pixel_shuffle(self.a(x), 2))


@structure((6, 12))
class EinsumParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(12, 8), nn.Linear(10, 3)
        self.weight = nn.Parameter(torch.zeros(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.einsum("bnc,cd->bnd", torch.sigmoid(self.a(x)), self.weight)))


@structure((6, 12))
class MatmulParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(12, 8), nn.Linear(10, 3)
        self.weight = nn.Parameter(torch.zeros(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.sigmoid(self.a(x)) @ self.weight))


@structure((6, 12))
class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.rnn = nn.Linear(12, 8), nn.LSTM(8, 7, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(torch.sigmoid(self.a(x)))[0][:, -1])


class C2f(nn.Module):
    """The block of YOLOv8: halves, bottlenecks on the last part, everything concatenated."""

    def __init__(self, c_in: int, c_out: int, n: int = 2) -> None:
        super().__init__()
        self.half = c_out // 2
        self.first, self.last = conv(c_in, c_out, 1), conv((2 + n) * self.half, c_out, 1)
        self.inner = nn.ModuleList(conv(self.half, self.half) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.inner:
            parts.append(parts[-1] + block(parts[-1]))
        return self.last(torch.cat(parts, 1))


@structure(IMAGE)
class YoloC2f(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.a, self.b = C2f(8, 8), C2f(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@structure(IMAGE)
class ChunkBranchAdd(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.a = conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, 1)
        return one + self.a(two)


@structure(IMAGE)
class ChunkTwoBranches(Net):
    def __init__(self) -> None:
        super().__init__(8, 10)
        self.a, self.b = conv(4, 6), conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, 1)
        return torch.cat([self.a(one), self.b(two)], 1)


@structure(IMAGE)
class LiteralView(Net):
    def __init__(self) -> None:
        super().__init__(6, 10)
        self.fc = nn.Linear(6 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(F.max_pool2d(self.stem(x), 2).view(-1, 6 * 4 * 4))))


@structure(IMAGE)
class ChannelBuffer(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.register_buffer("mean", torch.zeros(1, 8, 1, 1))
        self.b = conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(x - self.mean)


@structure((6, 12))
class MultiheadResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(12, 16), nn.LayerNorm(16)
        self.attention, self.head = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        return self.head(x + self.attention(y, y, y, need_weights=False)[0])
