"""Random networks composed of every structure that the labels know; each must be cut exactly.

A *plan* is a list of (block, number): the block's own choices are drawn from the number, so a plan is small,
prints well and shrinks well under hypothesis.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.graph.as_found import evaluating
from dtp_edge.graph.build import label_network
from dtp_edge.graph.trace import graph_of

Plan = list[tuple[str, int]]
Step = tuple[nn.Module, int]  # a module from `width` channels to the int


class Do(nn.Module):
    """Parts by name and a function of (self, x)."""

    def __init__(self, run: Callable[[Any, torch.Tensor], torch.Tensor], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def even(r: random.Random, low: int = 2, high: int = 6) -> int:
    return 2 * r.randint(low, high)


def act(r: random.Random, c: int) -> nn.Module:
    return r.choice(
        [nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.PReLU(c), nn.Identity()]
    )


def norm(r: random.Random, c: int) -> nn.Module:
    groups = next(g for g in (4, 2, 1) if c % g == 0)
    options = [nn.BatchNorm2d(c), nn.GroupNorm(groups, c), nn.InstanceNorm2d(c, affine=True), nn.Identity()]
    return r.choices(options, (5, 1, 1, 2))[0]


def conv(r: random.Random, i: int, o: int, **options: Any) -> nn.Sequential:
    k = r.choice([1, 3])
    return nn.Sequential(
        nn.Conv2d(i, o, k, padding=k // 2, bias=r.random() < 0.5, **options), norm(r, o), act(r, o)
    )


def plain(r: random.Random, c: int) -> Step:
    o = even(r)
    return conv(r, c, o), o


def depthwise(r: random.Random, c: int) -> Step:
    m = r.choice([1, 1, 2])
    return conv(r, c, c * m, groups=c), c * m


def grouped(r: random.Random, c: int) -> Step:
    g = next(g for g in (r.choice([2, 4]), 2, 1) if c % g == 0)
    o = g * r.randint(2, 4)
    return conv(r, c, o, groups=g), o


def residual(r: random.Random, c: int) -> Step:
    inner, w = plain(r, c)
    return Do(lambda s, x: x + s.b(s.a(x)), a=inner, b=conv(r, w, c)), c


def gate(r: random.Random, c: int) -> Step:
    o = even(r)
    return Do(lambda s, x: s.a(x) * s.b(x).sigmoid(), a=conv(r, c, o), b=conv(r, c, o)), o


def squeeze_excite(r: random.Random, c: int) -> Step:
    h = r.randint(2, 5)
    body = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, h, 1), act(r, h), nn.Conv2d(h, c, 1), nn.Hardsigmoid()
    )
    return Do(lambda s, x: x * s.f(x), f=body), c


def concat(r: random.Random, c: int) -> Step:
    a, b = even(r), even(r)
    if r.random() < 0.3:
        return Do(lambda s, x: torch.cat([x, s.a(x)], 1), a=conv(r, c, a)), c + a
    return Do(lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=conv(r, c, a), b=conv(r, c, b)), a + b


def dense(r: random.Random, c: int) -> Step:
    g, n = r.randint(2, 4), r.randint(1, 3)
    layers = nn.ModuleList(conv(r, c + i * g, g) for i in range(n))

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in s.layers:
            x = torch.cat([x, layer(x)], 1)
        return x

    return Do(run, layers=layers), c + n * g


def split(r: random.Random, c: int) -> Step:
    a = r.randint(1, c - 1)
    sizes = [a, c - a]
    if r.random() < 0.5:
        return Do(
            lambda s, x: torch.cat([s.m(x.split(sizes, 1)[0]), x.split(sizes, 1)[1]], 1), m=conv(r, a, a)
        ), c
    o = even(r)
    m, n = conv(r, a, o), conv(r, c - a, o)
    return Do(lambda s, x: s.m(x[:, :a]) + s.n(x[:, a:]), m=m, n=n), o


def chunk(r: random.Random, c: int) -> Step:
    if c % 2:
        return plain(r, c)
    h = c // 2
    if r.random() < 0.5:
        return Do(lambda s, x: (lambda y: torch.cat([y[0], s.m(y[1])], 1))(x.chunk(2, 1)), m=conv(r, h, h)), c
    return Do(lambda s, x: (lambda y: s.m(y[0]) + y[1])(x.chunk(2, 1)), m=conv(r, h, h)), h


def c2f(r: random.Random, c: int) -> Step:
    h, o = r.randint(2, 4), even(r)

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        parts = list(s.enter(x).chunk(2, 1))
        for m in s.ms:
            parts.append(parts[-1] + m(parts[-1]))
        return s.leave(torch.cat(parts, 1))

    n = r.randint(1, 2)
    ms = nn.ModuleList(conv(r, h, h) for _ in range(n))
    return Do(run, enter=conv(r, c, 2 * h), ms=ms, leave=conv(r, h * (2 + n), o)), o


def shuffle(r: random.Random, c: int) -> Step:
    g = next(g for g in (r.choice([2, 3, 4]), 2, 1) if c % g == 0)

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, ch, h, w = x.shape
        return x.view(b, g, ch // g, h, w).transpose(1, 2).reshape(b, ch, h, w)

    return (nn.ChannelShuffle(g) if r.random() < 0.3 else Do(run)), c


def pixels(r: random.Random, c: int) -> Step:
    if c % 4 or r.random() < 0.5:
        o = even(r)
        return nn.Sequential(nn.PixelUnshuffle(2), conv(r, 4 * c, 4 * o), nn.PixelShuffle(2)), o
    return nn.Sequential(nn.PixelShuffle(2), nn.AvgPool2d(2)), c // 4


def pad_shortcut(r: random.Random, c: int) -> Step:
    low, high = r.randint(0, 3), r.randint(0, 3)
    o = c + low + high
    return Do(lambda s, x: F.pad(x, (0, 0, 0, 0, low, high)) + s.m(x), m=conv(r, c, o)), o


def layer_scale(r: random.Random, c: int) -> Step:
    return Do(lambda s, x: x + s.g * s.m(x), g=nn.Parameter(torch.randn(c, 1, 1)), m=conv(r, c, c)), c


def buffers(r: random.Random, c: int) -> Step:
    return Do(lambda s, x: (x - s.mu) / s.sd, mu=torch.randn(1, c, 1, 1), sd=torch.rand(1, c, 1, 1) + 0.5), c


def shared(r: random.Random, c: int) -> Step:
    return Do(lambda s, x: s.m(s.m(x)), m=conv(r, c, c)), c


def stack(r: random.Random, c: int) -> Step:
    o = even(r)
    return Do(lambda s, x: torch.stack([s.a(x), s.b(x)], 1).sum(1), a=conv(r, c, o), b=conv(r, c, o)), o


def move(r: random.Random, c: int) -> Step:
    shift = r.randint(1, 5)
    kind = r.choice(["roll", "roll_add", "flip", "roll_space"])
    return {
        "roll": (Do(lambda s, x: torch.roll(x, shift, 1)), c),
        "roll_add": (Do(lambda s, x: torch.roll(x, shift, 1) + x), c),
        "flip": (Do(lambda s, x: x.flip(1)), c),
        "roll_space": (Do(lambda s, x: torch.roll(x, (1, 2), (2, 3))), c),
    }[kind]


def take(r: random.Random, c: int) -> Step:
    kind = r.choice(["step", "index", "select", "repeat"])
    if kind == "step":
        return Do(lambda s, x: x[:, ::2]), (c + 1) // 2
    if kind == "repeat":
        return Do(lambda s, x: x.repeat(1, 2, 1, 1)), 2 * c
    index = torch.tensor([r.randrange(c) for _ in range(r.randint(2, c + 1))])
    if kind == "index":
        return Do(lambda s, x: x[:, s.index], index=index), len(index)
    return Do(lambda s, x: torch.index_select(x, 1, s.index), index=index), len(index)


def transposed(r: random.Random, c: int) -> Step:
    g = 2 if c % 2 == 0 and r.random() < 0.3 else 1
    o = even(r)
    return nn.Sequential(nn.ConvTranspose2d(c, o, 2, 2, groups=g), act(r, o), nn.MaxPool2d(2)), o


def resample(r: random.Random, c: int) -> Step:
    mode = r.choice(["nearest", "bilinear"])
    return Do(lambda s, x: F.avg_pool2d(F.interpolate(x, scale_factor=2, mode=mode), 2) + x), c


def channels_last(r: random.Random, c: int) -> Step:
    h = even(r)
    body = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, h), nn.GELU(), nn.Linear(h, c))
    return Do(lambda s, x: x + s.m(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), m=body), c


def windows(r: random.Random, c: int) -> Step:
    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, ch, h, w = x.shape
        y = x.view(b, ch, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, ch)
        y = s.m(y)
        return y.view(b, h // 2, w // 2, 2, 2, ch).permute(0, 5, 1, 3, 2, 4).reshape(b, ch, h, w) + x

    return Do(run, m=nn.Linear(c, c)), c


def reduce_channels(r: random.Random, c: int) -> Step:
    """CBAM's spatial attention: mean and maximum over the channels."""
    body = nn.Conv2d(2, 1, 3, padding=1)
    return Do(lambda s, x: x * s.m(torch.cat([x.mean(1, True), x.amax(1, True)], 1)).sigmoid(), m=body), c


def soft_channels(r: random.Random, c: int) -> Step:
    o = even(r)
    return Do(lambda s, x: s.m(x).softmax(1) * s.n(x), m=conv(r, c, o), n=conv(r, c, o)), o


def volume(r: random.Random, c: int) -> Step:
    """Three dimensions, plain and transposed."""
    o, g = even(r), 2 if c % 2 == 0 and r.random() < 0.3 else 1
    body = nn.Sequential(nn.Conv3d(c, o, (1, 3, 3), padding=(0, 1, 1), groups=g), act(r, o))
    up = nn.ConvTranspose3d(o, o, (2, 1, 1), stride=(2, 1, 1))
    return Do(lambda s, x: s.up(s.m(x.unsqueeze(2))).mean(2), m=body, up=up), o


def normed(r: random.Random, c: int) -> Step:
    kind = r.choice(["each", "one", "image", "rms", "standardised"])
    if kind == "each":
        return nn.GroupNorm(c, c), c
    if kind == "one":
        return nn.GroupNorm(1, c), c
    if kind == "image":
        return nn.LayerNorm([c, 4, 4]), c
    if kind == "rms":
        return Do(lambda s, x: s.m(x.movedim(1, -1)).movedim(-1, 1), m=nn.RMSNorm(c)), c

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        flat = s.w.reshape(1, s.w.shape[0], -1)
        kernel = F.batch_norm(flat, None, None, training=True).reshape_as(s.w)
        return F.conv2d(x, kernel, padding=1)

    o = even(r)
    return Do(run, w=nn.Parameter(torch.randn(o, c, 3, 3))), o


def columns(r: random.Random, c: int) -> Step:
    """Windows by unfold, a linear layer over each, and back by fold."""
    o = even(r)

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.m(F.unfold(x, 2, stride=2).transpose(1, 2)).transpose(1, 2)
        return F.fold(y, (4, 4), 2, stride=2)

    return Do(run, m=nn.Linear(4 * c, 4 * o)), o


def written(r: random.Random, c: int) -> Step:
    """Writes into some of its channels."""
    start, step = r.randrange(c - 1), r.choice([1, 1, 2])
    n = len(range(start, c, step))

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, start::step] += s.m(x)
        return y

    return Do(run, m=conv(r, c, n)), c


def uneven(r: random.Random, c: int) -> Step:
    if c < 4:
        return plain(r, c)
    sizes = [1, c - 3, 2]

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        one, two, three = x.split(sizes, 1)
        return torch.cat([three, s.m(two), one, two], 1)

    return Do(run, m=conv(r, c - 3, 3)), c + 3


def mlp(r: random.Random, c: int) -> Step:
    h = even(r)
    body = nn.Sequential(nn.Linear(c, h), r.choice([nn.GELU(), nn.ReLU()]), nn.Linear(h, c))
    return Do(lambda s, x: x + s.m(x), m=body), c


def linear(r: random.Random, c: int) -> Step:
    o = even(r)
    return nn.Linear(c, o), o


def token_norm(r: random.Random, c: int) -> Step:
    return r.choice([nn.LayerNorm(c), nn.RMSNorm(c)]), c


def attention(r: random.Random, c: int) -> Step:
    heads, d = r.choice([1, 2, 3]), r.choice([2, 4])
    fused = r.random() < 0.5
    order = r.choice(["bnhqd", "qkv_chunk"])

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        if order == "bnhqd":
            q, k, v = s.qkv(x).reshape(b, n, 3, heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (y.reshape(b, n, heads, d).transpose(1, 2) for y in s.qkv(x).chunk(3, -1))
        y = (
            F.scaled_dot_product_attention(q, k, v)
            if fused
            else (q * d**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        )
        return x + s.out(y.transpose(1, 2).reshape(b, n, heads * d))

    return Do(run, qkv=nn.Linear(c, 3 * heads * d), out=nn.Linear(heads * d, c)), c


def multihead(r: random.Random, c: int) -> Step:
    if c % 2:
        return mlp(r, c)
    return Do(
        lambda s, x: x + s.m(x, x, x, need_weights=False)[0], m=nn.MultiheadAttention(c, 2, batch_first=True)
    ), c


def gated(r: random.Random, c: int) -> Step:
    h = even(r)
    if r.random() < 0.5:
        return nn.Sequential(nn.Linear(c, 2 * h), nn.GLU(-1)), h
    return Do(lambda s, x: (lambda y: F.silu(y[0]) * y[1])(s.m(x).chunk(2, -1)), m=nn.Linear(c, 2 * h)), h


def einsum(r: random.Random, c: int) -> Step:
    o = even(r)
    return Do(lambda s, x: torch.einsum("bnc,cd->bnd", x, s.w), w=nn.Parameter(torch.randn(c, o))), o


def position(r: random.Random, c: int) -> Step:
    return Do(lambda s, x: x + s.p, p=nn.Parameter(torch.randn(1, 16, c))), c


def grouped_queries(r: random.Random, c: int) -> Step:
    shared, each, d = r.choice([1, 2]), 2, 2
    kind = r.choice(["flag", "repeat", "expand"])

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q = s.q(x).reshape(b, n, shared * each, d).transpose(1, 2)
        k, v = (f(x).reshape(b, n, shared, d).transpose(1, 2) for f in (s.k, s.v))
        if kind == "repeat":
            k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
        if kind == "expand":
            k, v = (y[:, :, None].expand(b, shared, each, n, d).reshape(b, -1, n, d) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=kind == "flag")
        return x + s.out(y.transpose(1, 2).reshape(b, n, -1))

    h = shared * d
    parts = {"q": nn.Linear(c, h * each), "k": nn.Linear(c, h), "v": nn.Linear(c, h)}
    return Do(run, **parts, out=nn.Linear(h * each, c)), c


def biased_attention(r: random.Random, c: int) -> Step:
    """A relative-position table looked up by constant indices, one column a head."""
    heads, d = r.choice([2, 3]), 2
    index = torch.arange(16)[:, None] - torch.arange(16) + 15

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = s.qkv(x).reshape(b, n, 3, heads, d).permute(2, 0, 3, 1, 4)
        bias = s.table[s.index.view(-1)].view(16, 16, -1).permute(2, 0, 1)
        y = ((q @ k.transpose(-2, -1) + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return x + s.out(y)

    table = nn.Parameter(torch.randn(31, heads))
    return Do(run, table=table, index=index, qkv=nn.Linear(c, 3 * heads * d), out=nn.Linear(heads * d, c)), c


def channel_attention(r: random.Random, c: int) -> Step:
    """XCiT: attention between channels, over the tokens; cosine similarity."""
    heads, d = r.choice([1, 2]), 3

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = s.qkv(x).reshape(b, n, 3, heads, d).permute(2, 0, 3, 4, 1).unbind(0)
        y = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * s.t).softmax(-1) @ v
        return x + s.out(y.permute(0, 3, 1, 2).reshape(b, n, heads * d))

    t = nn.Parameter(torch.ones(heads, 1, 1))
    return Do(run, t=t, qkv=nn.Linear(c, 3 * heads * d), out=nn.Linear(heads * d, c)), c


def cross_attention(r: random.Random, c: int) -> Step:
    """Learned queries read the tokens, the tokens read them back."""
    n = r.randint(2, 4)

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        q = s.q.expand(x.shape[0], -1, -1)
        y = F.scaled_dot_product_attention(q, s.k(x), s.v(x))
        return x + torch.einsum("bnc,bmc->bnm", x, y).softmax(-1) @ y

    return Do(run, q=nn.Parameter(torch.randn(1, n, c)), k=nn.Linear(c, c), v=nn.Linear(c, c)), c


def class_token(r: random.Random, c: int) -> Step:
    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.m(torch.cat([s.t.expand(x.shape[0], -1, -1), x], 1))
        return y[:, 1:] + y[:, :1] + s.f(y[:, 0]).unsqueeze(1)

    return Do(run, t=nn.Parameter(torch.randn(1, 1, c)), m=nn.Linear(c, c), f=nn.Linear(c, c)), c


def tied(r: random.Random, c: int) -> Step:
    """One matrix there and back: the embedding that is also the output layer."""
    h = even(r)
    return Do(
        lambda s, x: x + F.linear(F.linear(x, s.w).relu(), s.w.t()), w=nn.Parameter(torch.randn(h, c))
    ), c


def embedded(r: random.Random, c: int) -> Step:
    """Positions by an embedding of constant indices."""
    index = torch.arange(16) % 5
    return Do(
        lambda s, x: torch.cat([x + s.e(s.index), s.e(s.index).expand_as(x)], -1),
        e=nn.Embedding(5, c),
        index=index,
    ), 2 * c


def unflattened(r: random.Random, c: int) -> Step:
    h, d = r.choice([2, 3]), r.choice([2, 3])
    body = nn.Linear(c, h * d)
    if r.random() < 0.5:
        return Do(
            lambda s, x: s.m(x).unflatten(-1, (h, d)).transpose(-1, -2).flatten(-2).relu(), m=body
        ), h * d
    return Do(lambda s, x: s.m(x).unflatten(-1, (h, d)).sum(-2), m=body), d


def sequence(r: random.Random, c: int) -> Step:
    """Convolutions along the tokens: small audio networks."""
    o, k = even(r), r.choice([1, 3])
    g = 2 if c % 2 == 0 and r.random() < 0.4 else 1
    body = nn.Sequential(nn.Conv1d(c, o, k, padding=k // 2, groups=g), nn.BatchNorm1d(o), nn.PReLU(o))
    if r.random() < 0.3:
        body.append(nn.ConvTranspose1d(o, o, 1, groups=2))
    return Do(lambda s, x: s.m(x.transpose(1, 2)).transpose(1, 2), m=body), o


def mixer(r: random.Random, c: int) -> Step:
    h = even(r)
    body = nn.Sequential(nn.Linear(16, h), nn.GELU(), nn.Linear(h, 16))
    return Do(lambda s, x: x + s.m(x.mT).mT, m=body), c


def gathered(r: random.Random, c: int) -> Step:
    index = torch.tensor([[[r.randrange(16)] for _ in range(16)]])
    return Do(lambda s, x: x + torch.gather(x, 1, s.index.expand(x.shape[0], -1, x.shape[2])), index=index), c


def recurrent(r: random.Random, c: int) -> Step:
    h, both = r.randint(3, 6), r.random() < 0.4
    kind = r.choice([nn.LSTM, nn.GRU])
    body = kind(c, h, r.choice([1, 1, 2]), batch_first=True, bidirectional=both)
    return Do(lambda s, x: s.m(x)[0], m=body), 2 * h if both else h


IMAGE_BLOCKS: dict[str, Callable[[random.Random, int], Step]] = {
    f.__name__: f
    for f in (
        *(
            plain,
            depthwise,
            grouped,
            residual,
            gate,
            squeeze_excite,
            concat,
            dense,
            split,
            chunk,
            c2f,
            shuffle,
        ),
        *(pixels, pad_shortcut, layer_scale, buffers, shared, stack, move, take, transposed, resample),
        *(channels_last, windows, reduce_channels, soft_channels, volume, normed, columns, written, uneven),
    )
}
TOKEN_BLOCKS: dict[str, Callable[[random.Random, int], Step]] = {
    f.__name__: f
    for f in (
        *(mlp, linear, token_norm, attention, multihead, gated, einsum, position, recurrent, grouped_queries),
        *(biased_attention, channel_attention, cross_attention, class_token, tied, embedded, unflattened),
        *(sequence, mixer, gathered),
    )
}
MAX_WIDTH = 48


class RandomNetwork(nn.Module):
    """Stem, image blocks, (tokens, token blocks,) head; input [batch, 3, 4, 4]."""

    def __init__(self, image: Plan, tokens: Plan, seed: int) -> None:
        super().__init__()
        r = random.Random(seed)
        torch.manual_seed(seed)
        width = even(r)
        self.words = nn.Embedding(9, width) if not image and r.random() < 0.5 else None
        self.stem = conv(r, 3, width)
        self.image, width = _blocks(IMAGE_BLOCKS, image, width)
        self.tokens, width = _blocks(TOKEN_BLOCKS, tokens, width)
        self.with_tokens = bool(tokens)
        self.flat = not tokens and r.random() < 0.3
        self.head = nn.Linear(width * (16 if self.flat else 1), 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.words is not None:  # the input as a text of 16 words
            x = self.words((x[:, 0].abs() * 4).long().clamp(0, 8)).permute(0, 3, 1, 2)
        else:
            x = self.stem(x)
        for block in self.image:
            x = block(x)
        if not self.with_tokens:
            return self.head(x.flatten(1) if self.flat else x.mean((2, 3)))
        x = x.flatten(2).transpose(1, 2)
        for block in self.tokens:
            x = block(x)
        return self.head(x.mean(1))


def trace_quickly(model: nn.Module, dynamic_batch: bool, depth: bool = False) -> PrunableNetwork:
    """Trace a random network; with a fixed batch torch.export takes a third of the time."""
    inputs = (torch.randn(2, 3, 4, 4),)
    if dynamic_batch:
        return trace_network(model, inputs, depth=depth)
    with evaluating(model):
        program = torch.export.export(model, inputs, strict=False)
    return label_network(model, graph_of(program, model), inputs, dynamic_batch=False, depth=depth)


def _blocks(known: dict[str, Callable[..., Step]], plan: Plan, width: int) -> tuple[nn.ModuleList, int]:
    blocks = nn.ModuleList()
    for name, number in plan:
        r = random.Random(number)
        if width > MAX_WIDTH:
            o = even(r)
            blocks.append(conv(r, width, o) if known is IMAGE_BLOCKS else nn.Linear(width, o))
            width = o
        if width < 2:
            continue
        block, width = known[name](r, width)
        blocks.append(block)
    return blocks, width


def random_plan(seed: int) -> tuple[Plan, Plan]:
    """Return the plans of a random network: up to 3 image blocks, and in half of them 1 or 2 token blocks."""
    r = random.Random(seed)
    count = r.choice([0, 0, 1, 2])
    few = r.choice([0, 1, 2]) if count else r.choice([1, 2, 3])
    image = [(r.choice(sorted(IMAGE_BLOCKS)), r.randrange(10**6)) for _ in range(few)]
    return image, [(r.choice(sorted(TOKEN_BLOCKS)), r.randrange(10**6)) for _ in range(count)]
