"""Reductions: reduced dimensions go; over labelled ones they run over what is kept, or all must stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dtp_edge.ops.moments import reduced_dims, weighted_moments, weights_of
from dtp_edge.ops.reduction import STATISTIC, SUM, WHOLE, reduction
from dtp_edge.ops.spec import Spec, T, example, register


def masked_mean(
    x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None,
    factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = reduced_dims(x, dim)
    found = weighted_moments(x, weights_of(x, factors, factor_dims), dims)[0]
    return found if keepdim else found.squeeze(dims)


def _variance(
    x: Tensor, dim: Any, correction: Any, keepdim: bool, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> tuple[Tensor, Tensor]:
    dims = reduced_dims(x, dim)
    average, deviation, total = weighted_moments(x, weights_of(x, factors, factor_dims), dims)
    variance = deviation / (total - float(correction))
    if keepdim:
        return variance, average
    return variance.squeeze(dims), average.squeeze(dims)


def masked_var(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)[0]


def masked_std(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)[0].sqrt()


def masked_var_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)


def masked_std_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    variance, average = masked_var_mean(
        x, dim, unbiased, keepdim, correction=correction, factors=factors, factor_dims=factor_dims
    )
    return variance.sqrt(), average


def _correction(unbiased: bool | None, correction: Any) -> float:
    if correction is not None:
        return float(correction)
    return 0.0 if unbiased is False else 1.0


_X = T((2, 5, 6))
_DIMS = (example(_X, [1]), example(_X, [2], True), example(_X, [1, 2], True))
register(Spec(names=("mean",), label=reduction(STATISTIC), kernel="pool", masked=masked_mean, examples=_DIMS))
for _name, _masked in (
    *(("var", masked_var), ("std", masked_std)),
    *(("var_mean", masked_var_mean), ("std_mean", masked_std_mean)),
):
    register(
        Spec(
            names=(_name,),
            label=reduction(STATISTIC),
            kernel="pool",
            masked=_masked,
            examples=(example(_X, [1], correction=1, keepdim=True), example(_X, [1, 2], correction=0)),
        )
    )
register(Spec(names=("sum",), label=reduction(SUM), kernel="pool", examples=_DIMS))
register(
    Spec(
        names=("linalg_vector_norm",),
        label=reduction(SUM),
        kernel="norm",
        examples=(example(_X, 2, [1]), example(_X, 2, [2], True), example(_X, 1, [1])),
    )
)
register(
    Spec(
        names=("norm",),
        label=reduction(SUM),
        kernel="pool",
        examples=(example(_X, 2, [1]), example(_X, 1, [2], True)),
    )
)
register(
    Spec(names=("nansum", "nanmean"), label=reduction(WHOLE), kernel="pool", examples=_DIMS),
)
register(
    Spec(
        names=("argmax", "argmin"),
        label=reduction(WHOLE),
        kernel="pool",
        examples=(example(_X, 1), example(_X, 2, True)),
    )
)
register(
    Spec(
        names=("any", "all"),
        label=reduction(WHOLE),
        kernel="pool",
        examples=(example(T((2, 5, 6), "bool"), 1),),
    )
)
