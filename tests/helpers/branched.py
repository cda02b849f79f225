"""Small networks with branches, one way to write them each, as people write them; all weights random."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtp_edge.zoo import create
from tests.helpers.graph_structures import randomise


class DropPath(nn.Module):
    """Stochastic depth, as timm writes it: nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = (torch.rand(len(x), *[1] * (x.dim() - 1)) > 0.2).to(x)
        return x * keep / 0.8


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(b, n, -1))


class VitBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.drop_path = nn.LayerNorm(dim), Attention(dim, 2), DropPath()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.position = nn.Parameter(torch.zeros(1, 16, 8))
        self.blocks = nn.Sequential(VitBlock(8), VitBlock(8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


class ConvNextBlock(nn.Module):
    """LayerScale and stochastic depth within the branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.LayerNorm(dim)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim)
        self.gamma, self.drop_path = nn.Parameter(torch.ones(dim)), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class Classifier(nn.Module):
    """A stem, a body, a mean over all places and a head."""

    def __init__(self, width: int, *body: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def unit(c_in: int, c_out: int, act: bool = True, kernel: int = 3) -> nn.Sequential:
    parts = [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*parts, *([nn.ReLU(inplace=True)] if act else []))


class Basic(nn.Module):
    """A block of ResNet, projected or not, that writes in place as torchvision does."""

    def __init__(self, width: int, project: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = unit(width, width), unit(width, width, act=False)
        self.downsample = unit(width, width, act=False, kernel=1) if project else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2: expand, depthwise, project; nothing behind the addition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 3 * width
        depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()
        )
        self.conv = nn.Sequential(unit(width, inner, kernel=1), depthwise, unit(inner, width, False, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Nested(nn.Module):
    """A branch within a branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = unit(width, 6), unit(6, 6, act=False), nn.Conv2d(6, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        y = y + self.inner(y)
        return x + self.leave(y)


class UNet(nn.Module):
    """Two levels whose skips are added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = unit(width, width), unit(width, width), unit(width, width)
        self.up2, self.up1 = unit(width, width), unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.up2(F.interpolate(c, scale_factor=2.0)) + b
        return self.up1(F.interpolate(b, scale_factor=2.0)) + a


class Fpn(nn.Module):
    """Lateral and top-down paths: both operands have a branch; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = unit(3, 6), unit(6, 8)
        self.lateral1, self.lateral2 = nn.Conv2d(6, 5, 1), nn.Conv2d(8, 5, 1)
        self.out1, self.out2 = nn.Conv2d(5, 4, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.c1(x)
        b = self.c2(F.max_pool2d(a, 2))
        top = self.lateral2(b)
        return self.out1(self.lateral1(a) + F.interpolate(top, scale_factor=2.0)), self.out2(top)


class C2f(nn.Module):
    """Bottlenecks in a chain of which every link is read at the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = unit(width, 8), unit(16, width)
        self.m = nn.ModuleList(nn.Sequential(unit(4, 4), unit(4, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            parts.append(parts[-1] + m(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Conformer(nn.Module):
    """Half a feed-forward, attention, a gated convolution, half a feed-forward; each is added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ff1, self.ff2 = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 12), nn.SiLU(), nn.Linear(12, dim))
            for _ in range(2)
        )
        self.norm, self.attn = nn.LayerNorm(dim), nn.MultiheadAttention(dim, 2, batch_first=True)
        self.pointwise, self.depthwise = (
            nn.Conv1d(dim, 2 * dim, 1),
            nn.Conv1d(dim, dim, 3, padding=1, groups=dim),
        )

    def convolution(self, x: Tensor) -> Tensor:
        return self.depthwise(F.glu(self.pointwise(x.transpose(1, 2)), 1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        x = x + 0.5 * self.ff1(x)
        y = self.norm(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        x = x + self.convolution(x)
        return (x + 0.5 * self.ff2(x)).transpose(1, 2).unflatten(2, (16, 16))


BRANCHED: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: create("resnet8"),
    "basic": lambda: Classifier(6, nn.ReLU(), Basic(6), Basic(6, project=True), Basic(6)),
    "inverted": lambda: Classifier(6, Inverted(6), Inverted(6)),
    "convnext": lambda: Classifier(6, ConvNextBlock(6), ConvNextBlock(6)),
    "vit": Vit,
    "nested": lambda: Classifier(8, Nested(8), Nested(8)),
    "unet": lambda: Classifier(6, UNet(6)),
    "fpn": Fpn,
    "c2f": lambda: Classifier(6, C2f(6)),
    "conformer": lambda: Classifier(8, Conformer(8)),
}
SIDE = {"resnet8": 32}


def branched(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a random network of this kind in eval mode, and an input of batch 2."""
    torch.manual_seed(seed)
    side = SIDE.get(name, 16)
    return randomise(BRANCHED[name](), seed).eval(), torch.randn(2, 3, side, side)
