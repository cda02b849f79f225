"""Kernels made for vectors cost their channels in whole vectors; a norm that only scales is no layer norm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from dtp_edge.cost import NetworkCost
from dtp_edge.cost.features import FEATURES
from dtp_edge.graph import trace_network
from dtp_edge.measure.import_printouts import Setting, import_printouts, read_printouts
from dtp_edge.measure.printout_fit import Row, common_rates, kernels_of
from dtp_edge.measure.printout_fusion import fusion_of
from dtp_edge.measure.printout_join import join
from dtp_edge.measure.printout_lanes import lanes_of, step_of
from dtp_edge.zoo import resolve_model
from tests.helpers.profiled import FIXTURES, profiled_network


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A printout, the network that it is of, and its layers."""
    model = str(profiled_network(tmp_path_factory.mktemp("net") / "net.onnx"))
    module, inputs, _ = resolve_model(model)
    (printout,) = read_printouts([FIXTURES / "openvino.csv"])
    return printout, model, trace_network(module, inputs).layers


@pytest.mark.parametrize(
    ("unit", "precision", "lanes"),
    [
        ("brgconv_avx512_1x1_f32", "fp32", 16),
        ("jit_avx2_f32", "fp32", 8),
        ("acl_neon", "fp16", 8),
        ("brgconv_avx512_vnni_i8", "int8", 64),
        ("", "fp32", 0),
        ("ref_any", "fp32", 0),
    ],
)
def test_the_lanes_are_those_of_the_kernels_that_take_the_time(printed, unit, precision, lanes):
    printout, model, layers = printed
    rows = [replace(row, unit="jit_sse42") for row in printout.rows]
    slow = max(range(len(rows)), key=lambda i: rows[i].time)
    rows[slow] = replace(rows[slow], unit=unit, time=100 * rows[slow].time)
    joined = join(replace(printout, rows=tuple(rows)), model, layers, fusion_of([printout], [layers]), 1.0)
    assert lanes_of([joined], precision) == lanes


def test_channels_within_a_vector_cost_the_same(printed):
    printout, model, layers = printed
    vectors = replace(printout, rows=tuple(replace(r, unit="jit_avx512_f32") for r in printout.rows))
    profile, _ = import_printouts([vectors], [(model, layers)], Setting("v"))
    assert profile.kernels["conv"].channel_step == (1, 16)
    by = {width: _ms(width, profile) for width in (17, 32, 33)}
    assert by[17] == pytest.approx(by[32], rel=0.02)
    assert by[33] > 1.1 * by[32]
    nameless = replace(printout, rows=tuple(replace(r, unit="") for r in printout.rows))
    profile, _ = import_printouts([nameless], [(model, layers)], Setting("n"))
    assert profile.kernels["conv"].channel_step == (1, 1)
    assert _ms(17, profile) < 0.9 * _ms(32, profile)
    assert step_of("layout", 16) == (1, 1)


def _ms(width, profile):
    net = trace_network(nn.Sequential(nn.Conv2d(3, width, 3)).eval(), torch.randn(1, 3, 40, 40)).layers
    cost = NetworkCost(net, profile)
    return cost.by_layer(cost.dense_sizes())[0].latency_ms


def test_a_batch_norm_by_itself_costs_what_elementwise_operators_do():
    def row(key, values, us):
        moved = {"in_bytes": 4.0 * values, "out_bytes": 4.0 * values, "last": 64.0}
        return Row(key, dict.fromkeys(FEATURES, 0.0) | {"network_bytes": 1e6, "rank": 4.0} | moved, us, 0, 0)

    sizes = (1e4, 3e4, 1e5, 3e5)
    rows = [row("elementwise.add", n, 1.0 + n / 1e4) for n in sizes]
    rows += [row("norm.layer_norm", n, 10.0 + n / 1e3) for n in sizes]
    kernels = kernels_of(rows, common_rates(rows), "test")
    assert kernels["norm.batch_norm"]["rows"] == kernels["elementwise"]["rows"]
    assert kernels["norm.layer_norm"]["rows"] != kernels["elementwise"]["rows"]
    own = [*rows, *(row("norm.batch_norm", n, 5.0) for n in sizes)]
    assert (
        kernels_of(own, common_rates(own), "test")["norm.batch_norm"]["rows"]
        != kernels["elementwise"]["rows"]
    )
