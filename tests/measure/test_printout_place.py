"""Rows that neither a name nor a count joins: where they stand says what they are; what is spelled out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.import_printouts import Setting, import_printouts, read_printouts
from dtp_edge.measure.printout import PrintedRow, Printout
from dtp_edge.measure.printout_fusion import fusion_of
from dtp_edge.measure.printout_join import Joined, join
from dtp_edge.measure.printout_place import places_of
from tests.helpers.profiled import FIXTURES

CONV, GEMM = "Delegate/Convolution (NHWC, F32) IGEMM", "Delegate/Fully Connected (NC, F32) GEMM"


class Net(nn.Module):
    """A convolution, a norm that runtimes spell out, a ReLU after a sum, a SiLU, a concatenation, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.LayerNorm([8, 8, 8])
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x))
        z = nn.functional.silu(self.second(y))
        return self.head(torch.cat([torch.relu(y + z), z], 1).mean((2, 3)))


PRINTED = (
    (CONV, 5.0),
    *(("Delegate/Mean (ND) Reduce2", 1.0), ("Delegate/Subtract (ND)", 1.0), ("Delegate/Multiply (ND)", 2.0)),
    ("PADV2", 0.5),
    (CONV, 7.0),
    *(("Delegate/Sigmoid (NC)", 3.0), ("Delegate/Multiply (ND)", 1.0)),
    *(("Delegate/Add (ND)", 1.0), ("Delegate/Clamp (NC)", 0.5)),
    *(("Delegate/Copy (NC, X32)", 0.25), ("Delegate/Copy (NC, X32)", 0.25)),
    *(("Delegate/Mean (ND) Reduce2", 0.5), (GEMM, 0.5)),
)


@pytest.fixture(scope="module")
def layers() -> LayerGraph:
    return trace_network(Net().eval(), (torch.randn(1, 3, 8, 8),)).layers


def printout(*rows: tuple[str, float], ordered: bool = True) -> Printout:
    printed = tuple(PrintedRow((f"[Delegate]:{i}",), kind, ms) for i, (kind, ms) in enumerate(rows))
    return Printout("p.txt", "LiteRT", printed, ordered=ordered)


def joined(
    layers: LayerGraph, *rows: tuple[str, float], ordered: bool = True
) -> tuple[Joined, dict[str, float]]:
    one = printout(*rows, ordered=ordered)
    found = join(one, "net", layers, fusion_of([one], [layers]), 1.0)
    return found, {k.op: found.ms[i] for i, k in enumerate(found.lowered.kernels) if i in found.ms}


def test_a_runtime_that_spells_out_what_it_runs_loses_no_time(layers: LayerGraph) -> None:
    found, ms = joined(layers, *PRINTED)
    assert found.loose == ()
    assert found.total_ms == pytest.approx(sum(time for _, time in PRINTED))
    assert ms["conv2d"] == 7.0  # the second
    assert ms["layer_norm"] == pytest.approx(4.5)  # padding too: there is a kernel to take it
    assert (ms["silu"], ms["add"], ms["relu"]) == pytest.approx((4.0, 1.0, 0.5))
    assert ms["cat"] + ms["mean"] == pytest.approx(1.0)
    assert ms["linear"] == 0.5


def test_rows_in_no_order_are_not_placed(layers: LayerGraph) -> None:
    found, _ = joined(layers, *PRINTED, ordered=False)
    assert found.loose_share > 0.2
    assert found.by["place"] == 0


def test_what_no_kernel_takes_is_dearer_in_a_profile(layers: LayerGraph) -> None:
    """No operator that has rows is free: that is how a prediction came out low."""
    one = printout(*PRINTED)
    profile, _ = import_printouts([one], [("net", layers)], Setting("p"))
    kernels = profile.kernels
    for family in ("norm.layer_norm", "layout.cat", "elementwise.silu"):
        assert "inside other kernels" not in kernels[family].source, family


def test_clamps_of_one_network_are_no_rows_of_another() -> None:
    def net(kind: nn.Module) -> LayerGraph:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), kind, nn.Conv2d(8, 8, 3), kind)
        return trace_network(model.eval(), (torch.randn(1, 3, 8, 8),)).layers

    own, folded = ((CONV, 1.0), ("Delegate/Clamp (NC)", 1.0)) * 2, ((CONV, 1.0),) * 2
    relu, relu6 = net(nn.ReLU()), net(nn.ReLU6())
    assert fusion_of([printout(*own), printout(*folded)], [relu, relu6]).activations == ("hardtanh",)
    assert fusion_of([printout(*folded), printout(*own)], [relu, relu6]).activations == ("relu",)


@given(st.lists(st.tuples(st.integers(-1, 7), st.floats(0.1, 9)), max_size=12), st.sets(st.integers(0, 7)))
def test_shares_are_whole_and_between_the_neighbours(
    rows: list[tuple[int, float]], without: set[int]
) -> None:
    one = printout(*(("Delegate/Copy", time) for _, time in rows))
    home = {id(row): kernel for row, (kernel, _) in zip(one.rows, rows, strict=True) if kernel >= 0}
    moved = {kernel: 1.0 + kernel for kernel in without - set(home.values())}
    loose = {id(row) for row in one.rows} - set(home)
    found = places_of(one, home, loose, moved, 8)
    kernels = [kernel for kernel, _ in rows]
    for place, row in enumerate(one.rows):
        if id(row) not in found:
            continue
        assert sum(found[id(row)].values()) == pytest.approx(1.0)
        before = next((k for k in reversed(kernels[:place]) if k >= 0), -1)
        after = next((k for k in kernels[place:] if k >= 0), 8)
        assert set(found[id(row)]) == {k for k in moved if before < k < after}


def test_litert_says_what_a_call_takes(tmp_path: Path) -> None:
    text = (FIXTURES / "litert.txt").read_text()
    path = tmp_path / "litert.txt"
    line = "INFO: Inference timings in us: Init: 5123, Warmup (avg): 300.5, Inference (avg): "
    path.write_text(f"{text}\n{line}287.25\n")
    assert read_printouts([path])[0].latency_ms == pytest.approx(0.28725)
    assert read_printouts([FIXTURES / "litert.txt"])[0].latency_ms is None
    path.write_text(f"{text}\n{line}1e+e\n")
    with pytest.raises(InputError, match="is no number"):
        read_printouts([path])
