"""Who computes what: families, order, shares; what a runtime says wrongly is not believed."""

from __future__ import annotations

import pytest

from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles
from dtp_edge.runtimes.placement import family_of, placement_of


def facts(*rows: tuple[str, bool]) -> dict[str, object]:
    operators = [{"name": f"{k}_{i}", "kind": k, "delegated": d} for i, (k, d) in enumerate(rows)]
    return {"unit": "XNNPACK", "operators": operators}


KERNELS = [("conv3x3", 4.0), ("dwconv", 1.0), ("elementwise", 0.5), ("pool", 0.5), ("linear", 2.0)]


def test_words_of_all_runtimes_fall_into_one_family() -> None:
    words = {
        "convolution": (
            "CONV_2D",
            "Conv2d",
            "DEPTHWISE_CONV_2D",
            "aten::convolution",
            "ConvolutionDepthWise",
        ),
        "product": ("FULLY_CONNECTED", "FullyConnected", "InnerProduct", "aten::addmm", "linear", "MatMul"),
        "pool": ("MEAN", "GlobalAvgPooling2d", "Pooling", "aten::mean", "AVERAGE_POOL_2D", "Reduce"),
        "free": ("RESHAPE", "StaticReshape", "aten::view_copy", "Reshape"),
        "elementwise": ("ADD", "BinaryOp", "Eltwise", "ReLU", "HardSwish", "aten::gelu"),
        "softmax": ("SOFTMAX", "aten::_softmax"),
    }
    for family, kinds in words.items():
        assert {family_of(kind) for kind in kinds} == {family}, family


def test_the_kth_of_a_family_has_the_time_of_our_kth() -> None:
    placement = placement_of(
        facts(
            ("Conv2d", True),
            ("Conv2d", False),
            ("Add", True),
            ("MEAN", True),
            ("RESHAPE", False),
            ("FC fully", True),
        ),
        KERNELS,
    )
    assert placement is not None
    assert [round(o.share, 4) for o in placement.operators] == [0.5, 0.125, 0.0625, 0.0625, 0.0, 0.25]
    assert placement.delegated == pytest.approx(0.875)
    assert [o.name for o in placement.left] == ["Conv2d_1", "RESHAPE_4"]
    assert placement.by == "predicted time"


def test_where_the_counts_differ_a_family_is_divided_evenly() -> None:
    placement = placement_of(
        facts(("Conv2d", True), ("Conv2d", False), ("Conv2d", True), ("linear", True)), KERNELS
    )
    assert placement is not None
    assert [round(o.share, 4) for o in placement.operators] == [round(5 / 3 / 7, 4)] * 3 + [round(2 / 7, 4)]


def test_without_a_profile_operators_count_and_free_ones_do_not() -> None:
    placement = placement_of(facts(("Conv2d", True), ("Erf", False), ("Reshape", False)))
    assert placement is not None
    assert (placement.by, placement.delegated) == ("operators", 0.5)


@pytest.mark.parametrize("rows", [None, [], "x", [1, 2], [{"name": 1}], [{}] * 30_000])
def test_nonsense_is_no_placement(rows: object) -> None:
    placement = placement_of({"operators": rows})
    assert placement is None or placement.operators == ()


def test_every_family_of_kernels_of_a_profile_is_that_of_runtimes() -> None:
    """One that fell to the rest would take the time of other operators."""
    kinds = {key.partition(".")[0] for name in list_profiles() for key in load_profile(name).kernels}
    other = {kind for kind in kinds if family_of(kind) == "elementwise"}
    assert other == {"elementwise"}
    assert {family_of(kind) for kind in kinds if kind.startswith(("conv", "depthwise", "grouped"))} == {
        "convolution"
    }
    assert family_of("dim_order_ops::_clone_dim_order") == family_of("layout") == "copy"
