# ruff: noqa: E501  one structure a line reads better than five
"""Small networks, one structure each, that pruners trip over. Every one must come out equal or frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Layers by name, and a forward given as a function of (self, x)."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def c(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def cbr(i: int, o: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(c(i, o, bias=False, **options), nn.BatchNorm2d(o), nn.ReLU())


def p(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


IMAGE = (2, 3, 8, 8)
TOKENS = (2, 5, 16)


def _attention(s: Net, x: torch.Tensor, fused: bool = True) -> torch.Tensor:
    b, n, _ = x.shape
    q, k, v = s.qkv(x).reshape(b, n, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
    if fused:
        y = F.scaled_dot_product_attention(q, k, v)
    else:
        y = ((q * 4**-0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
    return s.last(s.out(y.transpose(1, 2).reshape(b, n, 16)))


def _lstm(s: Net, x: torch.Tensor) -> torch.Tensor:
    return s.last(s.rnn(s.a(x))[0][:, -1])


def _window(s: Net, x: torch.Tensor) -> torch.Tensor:
    y = s.a(x)
    b, ch, h, w = y.shape
    y = y.view(b, ch, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, ch)
    y = s.mix(y) + y
    y = y.view(b, h // 4, w // 4, 4, 4, ch).permute(0, 5, 1, 3, 2, 4).reshape(b, ch, h, w)
    return s.b(y)


def _c2f(s: Net, x: torch.Tensor) -> torch.Tensor:
    parts = list(s.a(x).chunk(2, 1))
    parts.append(s.m1(parts[-1]) + parts[-1])
    parts.append(s.m2(parts[-1]))
    return s.b(torch.cat(parts, 1))


def _shuffle(s: Net, x: torch.Tensor) -> torch.Tensor:
    y = s.a(x)
    b, ch, h, w = y.shape
    return s.b(y.view(b, 2, ch // 2, h, w).transpose(1, 2).reshape(b, ch, h, w))


def _option_a(s: Net, x: torch.Tensor) -> torch.Tensor:
    y = s.a(x)
    return s.b(F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + s.m(y))


def _bias_table(s: Net, x: torch.Tensor) -> torch.Tensor:
    b, n, _ = x.shape
    q, k, v = s.qkv(x).reshape(b, n, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
    bias = s.table[s.index.view(-1)].view(n, n, 4).permute(2, 0, 1)
    y = (q * 0.5 @ k.transpose(-2, -1) + bias).softmax(-1) @ v
    return s.last(y.transpose(1, 2).reshape(b, n, 16))


def _relative_index() -> torch.Tensor:
    return (torch.arange(5)[:, None] - torch.arange(5)[None] + 4).long()


def _lin() -> dict[str, Any]:
    return {"a": nn.Linear(16, 24), "last": nn.Linear(24, 7)}


STRUCTURES: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "chain": lambda: (Net(lambda s, x: s.b(s.a(x)), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "residual": lambda: (Net(lambda s, x: s.b(s.m(s.a(x)) + s.a(x)), a=cbr(3, 8), m=cbr(8, 8), b=c(8, 5)), IMAGE),
    "concat": lambda: (
        Net(lambda s, x: s.b(torch.cat([s.a(x), s.m(x)], 1)), a=cbr(3, 8), m=cbr(3, 6), b=c(14, 5)),
        IMAGE,
    ),
    "slice": lambda: (Net(lambda s, x: s.b(s.a(x)[:, 2:9]), a=cbr(3, 12), b=c(7, 5)), IMAGE),
    "slice_step": lambda: (Net(lambda s, x: s.b(s.a(x)[:, 1::3]), a=cbr(3, 12), b=c(4, 5)), IMAGE),
    "split_uneven": lambda: (
        Net(
            lambda s, x: (lambda y: s.b(y[0]) + s.m(y[1]) + s.n(y[2]))(s.a(x).split([3, 5, 4], 1)),
            a=cbr(3, 12), b=c(3, 5), m=c(5, 5), n=c(4, 5),
        ),
        IMAGE,
    ),
    "chunk_branch_add": lambda: (
        Net(lambda s, x: (lambda y: s.b(s.m(y[0]) + y[1]))(s.a(x).chunk(2, 1)), a=cbr(3, 12), m=cbr(6, 6), b=c(6, 5)),
        IMAGE,
    ),
    "chunk_two_branches": lambda: (
        Net(
            lambda s, x: (lambda y: s.b(torch.cat([s.m(y[0]), s.n(y[1])], 1)))(s.a(x).chunk(2, 1)),
            a=cbr(3, 12), m=cbr(6, 8), n=cbr(6, 4), b=c(12, 5),
        ),
        IMAGE,
    ),
    "c2f": lambda: (Net(_c2f, a=cbr(3, 12), m1=cbr(6, 6), m2=cbr(6, 6), b=c(24, 5)), IMAGE),
    "depthwise": lambda: (Net(lambda s, x: s.b(s.m(s.a(x))), a=cbr(3, 8), m=cbr(8, 8, groups=8), b=c(8, 5)), IMAGE),
    "depthwise_multiplier": lambda: (
        Net(lambda s, x: s.b(s.m(s.a(x))), a=cbr(3, 8), m=cbr(8, 16, groups=8), b=c(16, 5)),
        IMAGE,
    ),
    "grouped": lambda: (Net(lambda s, x: s.b(s.m(s.a(x))), a=cbr(3, 8), m=cbr(8, 16, groups=4), b=c(16, 5)), IMAGE),
    "transposed": lambda: (
        Net(lambda s, x: s.b(s.m(s.a(x)).relu()), a=cbr(3, 8), m=nn.ConvTranspose2d(8, 6, 2, 2), b=c(6, 5)),
        IMAGE,
    ),
    "transposed_grouped": lambda: (
        Net(lambda s, x: s.b(s.m(s.a(x)).relu()), a=cbr(3, 8), m=nn.ConvTranspose2d(8, 12, 2, 2, groups=2), b=c(12, 5)),
        IMAGE,
    ),
    "space_to_depth": lambda: (
        Net(
            lambda s, x: (lambda y: s.b(torch.cat([y[..., ::2, ::2], y[..., 1::2, ::2], y[..., 1::2, 1::2]], 1)))(s.a(x)),
            a=cbr(3, 8), b=c(24, 5),
        ),
        IMAGE,
    ),
    "flatten_linear": lambda: (
        Net(lambda s, x: s.b(F.avg_pool2d(s.a(x), 2).flatten(1)), a=cbr(3, 8), b=nn.Linear(128, 5)),
        IMAGE,
    ),
    "view_literal": lambda: (
        Net(lambda s, x: s.b(F.avg_pool2d(s.a(x), 2).view(-1, 8 * 4 * 4)), a=cbr(3, 8), b=nn.Linear(128, 5)),
        IMAGE,
    ),
    "squeeze_excite": lambda: (
        Net(
            lambda s, x: (lambda y: s.b(y * s.f(y.mean((2, 3), keepdim=True)).sigmoid()))(s.a(x)),
            a=cbr(3, 8), f=nn.Sequential(c(8, 4, 1), nn.ReLU(), c(4, 8, 1)), b=c(8, 5),
        ),
        IMAGE,
    ),
    "attention_one_channel": lambda: (
        Net(lambda s, x: (lambda y: s.b(y * s.m(y).sigmoid()))(s.a(x)), a=cbr(3, 8), m=c(8, 1), b=c(8, 5)),
        IMAGE,
    ),
    "layer_scale": lambda: (
        Net(lambda s, x: s.b(s.a(x) * s.gamma + s.a(x)), a=cbr(3, 8), gamma=p(8, 1, 1), b=c(8, 5)),
        IMAGE,
    ),
    "buffer_per_channel": lambda: (
        Net(lambda s, x: s.b(s.a(x) - s.mu), a=cbr(3, 8), mu=torch.randn(1, 8, 1, 1), b=c(8, 5)),
        IMAGE,
    ),
    "stack_sum": lambda: (
        Net(lambda s, x: s.b(torch.stack([s.a(x), s.m(x)]).sum(0)), a=cbr(3, 8), m=cbr(3, 8), b=c(8, 5)),
        IMAGE,
    ),
    "shared_module": lambda: (Net(lambda s, x: s.b(s.m(s.m(s.a(x)))), a=cbr(3, 8), m=cbr(8, 8), b=c(8, 5)), IMAGE),
    "group_norm": lambda: (
        Net(lambda s, x: s.b(s.g(s.a(x)).relu()), a=c(3, 8), g=nn.GroupNorm(4, 8), b=c(8, 5)),
        IMAGE,
    ),
    "layer_norm": lambda: (Net(lambda s, x: s.last(s.n(s.a(x)).relu()), n=nn.LayerNorm(24), **_lin()), TOKENS),
    "rms_norm": lambda: (Net(lambda s, x: s.last(s.n(s.a(x)).relu()), n=nn.RMSNorm(24), **_lin()), TOKENS),
    "instance_norm": lambda: (
        Net(lambda s, x: s.b(s.g(s.a(x)).relu()), a=c(3, 8), g=nn.InstanceNorm2d(8, affine=True), b=c(8, 5)),
        IMAGE,
    ),
    "prelu": lambda: (Net(lambda s, x: s.b(s.g(s.a(x))), a=c(3, 8), g=nn.PReLU(8), b=c(8, 5)), IMAGE),
    "qkv_sdpa": lambda: (Net(_attention, qkv=nn.Linear(16, 48), out=nn.Linear(16, 16), last=nn.Linear(16, 7)), TOKENS),
    "qkv_matmul": lambda: (
        Net(lambda s, x: _attention(s, x, False), qkv=nn.Linear(16, 48), out=nn.Linear(16, 16), last=nn.Linear(16, 7)),
        TOKENS,
    ),
    "bias_table": lambda: (
        Net(_bias_table, qkv=nn.Linear(16, 48), table=p(9, 4), index=_relative_index(), last=nn.Linear(16, 7)),
        TOKENS,
    ),
    "multihead": lambda: (
        Net(
            lambda s, x: s.last(s.n(x + s.m(x, x, x, need_weights=False)[0])),
            m=nn.MultiheadAttention(16, 4, batch_first=True), n=nn.LayerNorm(16), last=nn.Linear(16, 7),
        ),
        TOKENS,
    ),
    "encoder_layer": lambda: (
        Net(lambda s, x: s.last(s.m(x)), m=nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), last=nn.Linear(16, 7)),
        TOKENS,
    ),
    "channel_shuffle": lambda: (Net(_shuffle, a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "channel_shuffle_module": lambda: (
        Net(lambda s, x: s.b(s.m(s.a(x))), a=cbr(3, 8), m=nn.ChannelShuffle(2), b=c(8, 5)),
        IMAGE,
    ),
    "option_a_shortcut": lambda: (Net(_option_a, a=cbr(3, 8), m=cbr(8, 16, stride=2), b=c(16, 5)), IMAGE),
    "roll_channels": lambda: (Net(lambda s, x: s.b(torch.roll(s.a(x), 3, 1)), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "roll_add": lambda: (
        Net(lambda s, x: (lambda y: s.b(torch.roll(y, 3, 1) + y))(s.a(x)), a=cbr(3, 8), b=c(8, 5)),
        IMAGE,
    ),
    "flip_channels": lambda: (Net(lambda s, x: s.b(s.a(x).flip(1)), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "pixel_shuffle": lambda: (
        Net(lambda s, x: s.b(F.pixel_shuffle(s.a(x), 2)), a=cbr(3, 16), b=c(4, 5)),
        IMAGE,
    ),
    "pixel_unshuffle": lambda: (Net(lambda s, x: s.b(F.pixel_unshuffle(s.a(x), 2)), a=cbr(3, 4), b=c(16, 5)), IMAGE),
    "einsum_parameter": lambda: (
        Net(lambda s, x: s.last(torch.einsum("bnc,cd->bnd", s.a(x), s.w)), w=p(24, 24), **_lin()),
        TOKENS,
    ),
    "matmul_parameter": lambda: (Net(lambda s, x: s.last(s.a(x).relu() @ s.w), w=p(24, 24), **_lin()), TOKENS),
    "lstm": lambda: (Net(_lstm, a=nn.Linear(16, 12), rnn=nn.LSTM(12, 10, batch_first=True), last=nn.Linear(10, 7)), TOKENS),
    "gru": lambda: (Net(_lstm, a=nn.Linear(16, 12), rnn=nn.GRU(12, 10, batch_first=True), last=nn.Linear(10, 7)), TOKENS),
    "window_partition": lambda: (Net(_window, a=cbr(3, 8), mix=nn.Linear(8, 8), b=c(8, 5)), IMAGE),
    "index_channels": lambda: (
        Net(lambda s, x: s.b(s.a(x)[:, s.index]), a=cbr(3, 8), index=torch.tensor([5, 1, 1, 0, 7]), b=c(5, 5)),
        IMAGE,
    ),
    "index_select": lambda: (
        Net(
            lambda s, x: s.b(torch.index_select(s.a(x), 1, s.index)),
            a=cbr(3, 8), index=torch.tensor([5, 1, 4, 0, 7]), b=c(5, 5),
        ),
        IMAGE,
    ),
    "select_channel": lambda: (Net(lambda s, x: s.b(s.a(x)) * s.a(x)[:, 2:3], a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "expand_parameter": lambda: (
        Net(lambda s, x: s.last(torch.cat([s.t.expand(x.shape[0], -1, -1), s.a(x)], 1)), t=p(1, 1, 24), **_lin()),
        TOKENS,
    ),
    "position_embedding": lambda: (Net(lambda s, x: s.last((s.a(x) + s.t).relu()), t=p(1, 5, 24), **_lin()), TOKENS),
    "mean_tokens": lambda: (Net(lambda s, x: s.last(s.a(x).mean(1)), **_lin()), TOKENS),
    "upsample": lambda: (
        Net(lambda s, x: s.b(F.interpolate(s.a(x), scale_factor=2, mode="bilinear")), a=cbr(3, 8), b=c(8, 5)),
        IMAGE,
    ),
    "conv1d": lambda: (
        Net(lambda s, x: s.b(s.a(x).relu()), a=nn.Conv1d(5, 8, 3), b=nn.Conv1d(8, 4, 3)),
        TOKENS,
    ),
    "conv3d": lambda: (
        Net(lambda s, x: s.b(s.a(x).relu()), a=nn.Conv3d(2, 8, 3), b=nn.Conv3d(8, 4, 1)),
        (2, 2, 4, 4, 4),
    ),
    "tied_linear": lambda: (
        Net(lambda s, x: F.linear(F.linear(x, s.w).relu(), s.w.t()), w=p(24, 16)),
        TOKENS,
    ),
    "glu": lambda: (Net(lambda s, x: s.last(F.glu(s.a(x), -1)), a=nn.Linear(16, 48), last=nn.Linear(24, 7)), TOKENS),
    "repeat_channels": lambda: (
        Net(lambda s, x: s.b(s.a(x).repeat(1, 2, 1, 1)), a=cbr(3, 8), b=c(16, 5)),
        IMAGE,
    ),
    "tile_of_the_last_dimensions": lambda: (Net(lambda s, x: s.b(s.a(x).tile((2, 1))), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "statistics_of_the_input": lambda: (
        Net(
            lambda s, x: s.b(F.batch_norm(s.a(x), None, None, training=True)),
            a=cbr(3, 8), b=c(8, 5),
        ),
        IMAGE,
    ),
    "squeeze_after_pool": lambda: (
        Net(lambda s, x: s.b(F.adaptive_avg_pool2d(s.a(x), 1).squeeze()), a=cbr(3, 8), b=nn.Linear(8, 5)),
        IMAGE,
    ),
    "softmax_channels": lambda: (Net(lambda s, x: s.b(s.a(x).softmax(1)), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "argmax_channels": lambda: (Net(lambda s, x: s.b(s.a(x)) * s.a(x).amax(1, True), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "normalize_channels": lambda: (Net(lambda s, x: s.last(F.normalize(s.a(x), dim=-1)), **_lin()), TOKENS),
    "two_outputs": lambda: (
        Net(lambda s, x: (lambda y: {"a": s.b(y), "b": [s.m(y)]})(s.a(x)), a=cbr(3, 8), b=c(8, 5), m=c(8, 2)),
        IMAGE,
    ),
    "unflatten": lambda: (
        Net(
            lambda s, x: s.last(s.a(x).unflatten(-1, (4, 6)).transpose(-1, -2).flatten(-2).relu()),
            **_lin(),
        ),
        TOKENS,
    ),
    "pad_reflect": lambda: (Net(lambda s, x: s.b(F.pad(s.a(x), (1, 1, 1, 1), "reflect")), a=cbr(3, 8), b=c(8, 5)), IMAGE),
    "new_zeros_cat": lambda: (
        Net(
            lambda s, x: (lambda y: s.b(torch.cat([y, y.new_zeros(y.shape[0], 4, 8, 8)], 1) + s.m(x)))(s.a(x)),
            a=cbr(3, 8), m=cbr(3, 12), b=c(12, 5),
        ),
        IMAGE,
    ),
}  # fmt: skip
