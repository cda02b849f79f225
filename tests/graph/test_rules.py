"""Every label rule against brute force, on arguments drawn at random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.brute_force import Case, label, uncovered, unknown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dtp_edge.ops.refusal import Code
from dtp_edge.ops.spec import specifications

aten = torch.ops.aten


def sizes(draw: st.DrawFn, low: int = 1, high: int = 6) -> int:
    return draw(st.integers(low, high))


def tensor(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    """1, 2 and 3 dimensions, plain, grouped, depthwise with a multiplier, and all of them transposed."""
    n = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c_in, c_out = groups * sizes(draw, 1, 3), groups * sizes(draw, 1, 3)
    x, ones, zeros, kernel = tensor(2, c_in, *[3] * n), [1] * n, [0] * n, [2] * n
    bias = tensor(c_out) if draw(st.booleans()) else None
    if draw(st.booleans()):
        name = f"conv_transpose{n}d"
        function = getattr(aten, name).default if n == 1 else getattr(aten, name).input
        return function, [x, tensor(c_in, c_out // groups, *kernel), bias, ones, zeros, zeros, groups], {}
    function = getattr(aten, f"conv{n}d").default
    return function, [x, tensor(c_out, c_in // groups, *kernel), bias, ones, zeros, ones, groups], {}


@st.composite
def products(draw: st.DrawFn) -> Case:
    n, k, m = sizes(draw, 2), sizes(draw, 2), sizes(draw, 2)
    equation = draw(
        st.sampled_from(
            ["bnk,bkm->bnm", "bnk,bkm->bm", "bnk,bkm->kbn", "...k,...km->...m", "bnk,bkm", "bnk,bkm->nm"]
        )
    )
    left = tensor(2, k) if "..." in equation else tensor(2, n, k)
    calls: list[Case] = [
        (aten.linear.default, [tensor(2, n, k), tensor(m, k), tensor(m)], {}),
        (aten.matmul.default, [tensor(2, n, k), tensor(k, m)], {}),
        (aten.matmul.default, [tensor(2, 3, n, k), tensor(1, 3, k, m)], {}),
        (aten.matmul.default, [tensor(k), tensor(2, k, m)], {}),
        (aten.matmul.default, [tensor(2, n, k), tensor(k)], {}),
        (aten.bmm.default, [tensor(2, n, k), tensor(2, k, m)], {}),
        (aten.mm.default, [tensor(n, k), tensor(k, m)], {}),
        (aten.addmm.default, [tensor(m), tensor(n, k), tensor(k, m)], {}),
        (aten.baddbmm.default, [tensor(2, n, m), tensor(2, n, k), tensor(2, k, m)], {}),
        (aten.baddbmm.default, [tensor(1, m), tensor(2, n, k), tensor(2, k, m)], {}),
        (aten.einsum.default, [equation, [left, tensor(2, k, m)]], {}),
    ]
    return draw(st.sampled_from(calls))


@st.composite
def attentions(draw: st.DrawFn) -> Case:
    """Queries of their own number, an own width for the values, a mask, grouped queries."""
    n, k, m, d = sizes(draw, 2, 4), sizes(draw, 2, 4), sizes(draw, 2, 4), sizes(draw, 2, 4)
    heads, shared = draw(st.sampled_from([(2, 2), (3, 3), (4, 2), (6, 3)]))
    args: list[Any] = [tensor(2, heads, n, k), tensor(2, shared, m, k), tensor(2, shared, m, d)]
    if draw(st.booleans()):
        args.append(tensor(heads, n, m))
    gqa = {"enable_gqa": True} if heads != shared else {}
    return aten.scaled_dot_product_attention.default, args, gqa


@st.composite
def recurrences(draw: st.DrawFn) -> Case:
    """One or two layers, one or two directions, with and without biases."""
    kind = draw(st.sampled_from(["lstm", "gru", "rnn_tanh"]))
    layers, both, biases = draw(st.integers(1, 2)), draw(st.booleans()), draw(st.booleans())
    inside, hidden, ways = sizes(draw, 2, 4), sizes(draw, 2, 3), 2 if both else 1
    gates = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[kind]
    params: list[Tensor] = []
    for layer in range(layers):
        width = inside if layer == 0 else hidden * ways
        for _ in range(ways):
            params += [tensor(gates * hidden, width), tensor(gates * hidden, hidden)]
            params += [tensor(gates * hidden), tensor(gates * hidden)] if biases else []
    state = tensor(layers * ways, 2, hidden)
    states: Any = [state, tensor(*state.shape)] if kind == "lstm" else state
    args = [tensor(2, 3, inside), states, params, biases, layers, 0.0, False, both, True]
    return getattr(aten, kind).input, args, {}


@st.composite
def reshapes(draw: st.DrawFn) -> Case:
    pieces = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, max_size=4))
    cuts = [draw(st.booleans()) for _ in pieces]
    other = [draw(st.booleans()) for _ in pieces]
    before, after = _group(pieces, cuts), _group(pieces, other)
    return aten.view.default, [tensor(*before), after], {}


def _group(pieces: list[int], cuts: list[bool]) -> list[int]:
    found = [1]
    for piece, cut in zip(pieces, cuts, strict=True):
        if cut:
            found.append(piece)
        else:
            found[-1] *= piece
    return found


@st.composite
def movements(draw: st.DrawFn) -> Case:
    a, b, c = sizes(draw, 2), sizes(draw, 2), sizes(draw, 2)
    x = tensor(a, b, c)
    calls: list[Case] = [
        (aten.permute.default, [x, [2, 0, 1]], {}),
        (aten.transpose.int, [x, 0, -1], {}),
        (aten.cat.default, [[x, tensor(a, 3, c)], 1], {}),
        (aten.stack.default, [[x, tensor(a, b, c)], draw(st.integers(0, 3))], {}),
        (aten.chunk.default, [x, draw(st.integers(1, 3)), 1], {}),
        (aten.split_with_sizes.default, [x, [1, b - 1], 1], {}),
        (aten.slice.Tensor, [x, 1, draw(st.integers(-b, b - 1)), 2**63 - 1, draw(st.integers(1, 2))], {}),
        (aten.select.int, [x, 1, draw(st.integers(-b, b - 1))], {}),
        (aten.unbind.int, [x, 1], {}),
        (aten.flip.default, [x, [0, 2]], {}),
        (aten.roll.default, [x, [draw(st.integers(-3, 3))], [1]], {}),
        (aten.pad.default, [x, [draw(st.integers(0, 2)), 1, draw(st.integers(0, 2)), 0]], {}),
        (aten.repeat.default, [x, [1, 2, 3]], {}),
        (aten.expand.default, [tensor(a, 1, c), [a, b, c]], {}),
        (aten.unsqueeze.default, [x, 1], {}),
        (aten.tile.default, [x, [2, 1]], {}),
        (aten.narrow.default, [x, 1, 1, b - 1], {}),
        (aten.tensor_split.sections, [x, 2, 1], {}),
        (aten.movedim.intlist, [x, [0, 1], [2, 0]], {}),
        (aten.unflatten.int, [tensor(a, b * c), 1, [b, c]], {}),
        (aten.pad.default, [x, [0, 0, 1, 1], "reflect"], {}),
        (aten.constant_pad_nd.default, [x, [-1, 1, 2, -1]], {}),
        (aten.unfold.default, [x, 1, 2, 1], {}),
        (aten.im2col.default, [tensor(2, a, 3, 3), [2, 2], [1, 1], [0, 0], [1, 1]], {}),
        (aten.col2im.default, [tensor(2, 4 * a, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1]], {}),
        (aten.pixel_shuffle.default, [tensor(2, 4 * a, 2, 2), 2], {}),
        (aten.pixel_unshuffle.default, [tensor(2, a, 4, 4), 2], {}),
        (aten.channel_shuffle.default, [tensor(2, 2 * a, 2, 2), 2], {}),
        (aten.index_select.default, [x, 1, torch.randint(0, b, (4,))], {}),
        (aten.index.Tensor, [x, [None, torch.randint(0, b, (2, 3))]], {}),
        (aten.gather.default, [x, 1, torch.randint(0, b, (a, b, c))], {}),
        (aten.repeat_interleave.self_int, [x, 2, 1], {}),
    ]
    return draw(st.sampled_from(calls))


@st.composite
def numbers(draw: st.DrawFn) -> Case:
    a, b, c = sizes(draw, 2), sizes(draw, 2), sizes(draw, 2)
    x = tensor(a, 2 * b, c)
    per = tensor(2 * b)
    calls: list[Case] = [
        (aten.add.Tensor, [x, tensor(2 * b, 1)], {}),
        (aten.mul.Tensor, [x, tensor(1, 1, c)], {}),
        (aten.div.Tensor, [tensor(c), x], {}),
        (aten.where.self, [x > 0, x, tensor(1, 2 * b, c)], {}),
        (aten.gelu.default, [x], {}),
        (aten.rsub.Tensor, [x, tensor(2 * b, c)], {}),
        (aten.clamp.Tensor, [x, tensor(2 * b, 1), tensor(c).abs() + 5], {}),
        (aten.glu.default, [x, 1], {}),
        (aten.prelu.default, [x, per], {}),
        (aten.batch_norm.default, [x, per, per, per, per.abs() + 1, False, 0.1, 1e-5, False], {}),
        (aten.layer_norm.default, [x, [2 * b, c], tensor(2 * b, c), tensor(2 * b, c)], {}),
        (aten.group_norm.default, [x, 2, per, per], {}),
        (aten.instance_norm.default, [x, per, per, None, None, True, 0.1, 1e-5, False], {}),
        (aten.rms_norm.default, [x, [c], tensor(c)], {}),
        (aten.softmax.int, [x, draw(st.integers(-3, 2))], {}),
        (aten.log_softmax.int, [x, draw(st.integers(-3, 2))], {}),
        (aten.group_norm.default, [x, 2 * b, per, per], {}),
        (aten.upsample_nearest1d.vec, [x, [2 * c], None], {}),
        (aten.upsample_bilinear2d.vec, [tensor(2, a, 2, 2), [4, 4], False, None], {}),
        (aten.adaptive_avg_pool2d.default, [tensor(2, a, 3, 3), [1, 1]], {}),
        (aten.max_pool3d.default, [tensor(2, a, 2, 2, 2), [2, 2, 2]], {}),
        (aten.native_dropout.default, [x, 0.0, False], {}),
        (aten.lerp.Tensor, [x, tensor(2 * b, c), tensor(1)], {}),
        (aten.mean.dim, [x, draw(st.sampled_from([[0], [1, 2], [-1]])), draw(st.booleans())], {}),
        (aten.sum.dim_IntList, [x, draw(st.sampled_from([[0], [1, 2], [-1]])), draw(st.booleans())], {}),
        (aten.var.correction, [x, [1]], {}),
        (aten.amax.default, [x, [1]], {}),
        (aten.linalg_vector_norm.default, [x, 2, [1], True], {}),
        (aten.cumsum.default, [x, 1], {}),
        (aten.avg_pool1d.default, [x, [2]], {}),
        (aten.max_pool2d.default, [x, [2, 2]], {}),
        (aten.embedding.default, [tensor(5, c), torch.randint(0, 5, (a, b))], {}),
        (aten.sort.default, [x, 1], {}),
    ]
    return draw(st.sampled_from(calls))


WITHOUT_RULE = (aten.cumsum.default, aten.sort.default)


def faults(case: Case) -> list[str]:
    """Return what the labels of a call do not cover, or that no rule covers the call."""
    return uncovered(case) + ([] if case[0] in WITHOUT_RULE else unknown(label(case)[0]))


FAMILIES = {
    "conv": convolutions(),
    "product": products(),
    "attention": attentions(),
    "recurrence": recurrences(),
    "reshape": reshapes(),
    "movement": movements(),
    "number": numbers(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_rules_against_brute_force(family: str) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(FAMILIES[family])
    def run(case: Case) -> None:
        assert not faults(case)

    run()


def test_an_unknown_operator_freezes_what_reaches_it() -> None:
    x = tensor(2, 4)
    ctx, _, output, _ = label((aten.cumsum.default, [x, 1], {}))
    why, reasons = ctx.atoms.frozen()
    assert (why >= 0).all()
    assert reasons[0].code == Code.NO_RULE
    assert "cumsum" in reasons[0].text
    assert output.labels == [None, None]


def test_a_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brute force itself can fail: claim that softmax passes every index through."""
    specs = specifications()
    monkeypatch.setitem(specs, "softmax", specs["gelu"])
    assert faults((aten.softmax.int, [tensor(2, 3), 1], {}))


def test_silu_is_pointwise() -> None:
    assert not faults((aten.silu.default, [F.relu(tensor(3, 4))], {}))
