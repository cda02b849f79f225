"""Further structures of real networks; importing this module adds them to `STRUCTURES`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.graph_structures import IMAGE, Net, conv, structure


@structure(IMAGE)
class PRelu(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.act, self.b = nn.PReLU(8), conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.act(x))


@structure((3, 16))
class Conv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 6, 3, groups=2)
        self.norm, self.head = nn.InstanceNorm1d(8, affine=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(torch.sigmoid(self.norm(self.a(x))), scale_factor=2, mode="linear")
        return self.head(F.adaptive_max_pool1d(self.b(x), 1).squeeze(-1))


@structure((3, 4, 6, 6))
class Conv3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.Conv3d(8, 6, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(F.max_pool3d(F.elu(self.bn(self.a(x))), (1, 2, 2))).amax((2, 3, 4)))


@structure((6, 12))
class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.rnn, self.head = nn.Linear(12, 8), nn.GRU(8, 7, 1, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.rnn(torch.sigmoid(self.a(x)))
        return self.head(y.mean(1) + state[0])


@structure(IMAGE)
class PixelUnshuffle(Net):
    def __init__(self) -> None:
        super().__init__(6, 8)
        self.a = conv(24, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.a(F.pixel_unshuffle(x, 2))


@structure(IMAGE)
class UpsampleConcat(Net):
    def __init__(self) -> None:
        super().__init__(8, 10)
        self.down, self.a = conv(8, 6, stride=2), conv(14, 10)

    def body(self, x: Tensor) -> Tensor:
        up = F.interpolate(self.down(x), size=x.shape[2:], mode="bilinear")
        return self.a(torch.cat([up, F.interpolate(x, scale_factor=1.0)], 1))


@structure(IMAGE)
class ConvNeXtBlock(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.dw, self.norm = nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.LayerNorm(8)
        self.a, self.b = nn.Linear(8, 20), nn.Linear(20, 8)
        self.gamma = nn.Parameter(torch.zeros(8))

    def body(self, x: Tensor) -> Tensor:
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.b(F.gelu(self.a(y)))).permute(0, 3, 1, 2)


@structure((6, 12))
class SeparateQkv(nn.Module):
    """Queries, keys and values of their own; scores by matmul with a literal scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.k = nn.Linear(12, 16), nn.Linear(16, 12), nn.Linear(16, 12)
        self.v, self.out, self.head = nn.Linear(16, 20), nn.Linear(20, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.embed(x))
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, 4, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-2, -1) * 3**-0.5).softmax(-1)
        return self.head(x + self.out((scores @ v).transpose(1, 2).reshape(b, n, 20)))


@structure((6, 12))
class RelativePosition(nn.Module):
    """A bias table looked up by a constant index and added to the scores, one column a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(12, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)
        self.table = nn.Parameter(torch.zeros(11, 4))
        index = torch.arange(6)[:, None] - torch.arange(6)[None] + 5
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, 4).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        scores = (q * 0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return self.head(x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)))


@structure((4, 12))
class TransformerLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)).mean(1))


@structure((6, 12))
class RmsNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.head = nn.Linear(12, 10), nn.RMSNorm(10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.norm(self.a(x))))


@structure(IMAGE)
class WindowPartition(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.norm, self.a = nn.LayerNorm(8), nn.Linear(8, 8)

    def body(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        y = self.a(torch.roll(self.norm(y), 2, 1))
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        return x + y


@structure(IMAGE)
class WeightStandardised(Net):
    """The kernel is normalised over its own input dimension before use."""

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.weight = nn.Parameter(torch.zeros(6, 8, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, 6, -1)
        kernel = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.silu(F.conv2d(x, kernel, padding=1))


@structure(IMAGE)
class MeanOverChannels(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.b = conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(x - x.mean(1, keepdim=True)) / (1 + (x * x).sum(1, keepdim=True))


@structure(IMAGE)
class MaxOverChannels(Net):
    """CBAM's spatial attention: a maximum over channels cannot be masked, so they stay."""

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.attention, self.b = nn.Conv2d(2, 1, 3, padding=1), conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.b(x * torch.sigmoid(self.attention(both)))


@structure((7,))
class EmbeddingTied(nn.Module):
    """Token numbers in; the embedding table is also the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table((x.abs() * 3).long().clamp(0, 8))
        return F.linear(x + self.b(F.gelu(self.a(x))), self.table.weight)


@structure(IMAGE)
class GatedHalf(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.a, self.b = nn.Conv2d(8, 12, 1), nn.Conv2d(6, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x), 1))


@structure(IMAGE)
class FlipAndIndex(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 7, 6, 5, 4]))
        self.a, self.b = conv(8, 8), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)[:, self.order] + x.flip(1))


@structure(IMAGE)
class EfficientChannelAttention(Net):
    """A convolution along the channels themselves: their order and number are fixed."""

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.along, self.b = nn.Conv1d(1, 1, 3, padding=1), conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        gate = self.along(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return self.b(x) + self.b(x * torch.sigmoid(gate))


@structure(IMAGE)
class SoftmaxOverChannels(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.b = conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.b(x.softmax(1)).repeat(1, 2, 1, 1)[:, :8])


@structure(IMAGE)
class SplitAttention(Net):
    """ResNeSt: two branches weighed by a softmax over the branches."""

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.a, self.down, self.up = conv(8, 12, groups=2), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        b, _, h, w = y.shape
        y = y.reshape(b, 2, 6, h, w)
        gate = self.up(F.relu(self.down(y.sum(1).mean((2, 3), keepdim=True))))
        gate = gate.view(b, 1, 2, -1).transpose(1, 2).softmax(1).reshape(b, 2, 6, 1, 1)
        return (y * gate).sum(1)
