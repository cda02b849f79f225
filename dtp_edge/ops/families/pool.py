"""Pooling and resizing: windows over the last dimensions; batch and channels pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dtp_edge.ops.spec import Example, Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, values_of


def windows(count: int) -> Callable[[Context, Arguments, Any], None]:
    def label(ctx: Context, a: Arguments, out: Any) -> None:
        """Windows over the last `count` dimensions; the others pass through."""
        x = ctx.value(a.get("self", a.get("input")))
        for value in values_of(out):
            for dim in range(x.rank):
                rows = ctx.read(x, dim)
                if dim < x.rank - count:
                    value.labels[dim] = rows
                else:
                    ctx.freeze(rows, f"{ctx.op} takes it as a spatial dimension")

    return label


def _register(name: str, count: int, *args: Any, kernel: str = "pool", layout: str = "plain") -> None:
    use: Example = example(T((2, 6, *[4] * count)), *args)
    register(Spec(names=(name,), label=windows(count), kernel=kernel, layout=layout, examples=(use,)))


for _n in (1, 2, 3):
    _two, _one, _eight = [2] * _n, [1] * _n, [8] * _n
    _window = "window" if _n == 2 else "plain"
    _global = "global" if _n == 2 else "plain"
    _register(f"max_pool{_n}d", _n, _two, layout=_window)
    _register(f"avg_pool{_n}d", _n, _two, layout=_window)
    _register(f"max_pool{_n}d_with_indices", _n, _two, layout=_window)
    _register(f"adaptive_avg_pool{_n}d", _n, _one, layout=_global)
    if _n > 1:
        _register(f"_adaptive_avg_pool{_n}d", _n, _one)
    _register(f"adaptive_max_pool{_n}d", _n, _one, layout=_global)
    _register(f"reflection_pad{_n}d", _n, [1, 1] * _n, kernel="layout")
    _register(f"replication_pad{_n}d", _n, [1, 1] * _n, kernel="layout")
    _nearest = "follow" if _n == 2 else "plain"
    _register(f"upsample_nearest{_n}d", _n, _eight, kernel="resize", layout=_nearest)
    _register(f"_upsample_nearest_exact{_n}d", _n, _eight, kernel="resize")
_register("upsample_linear1d", 1, [8], False, kernel="resize")
_register("upsample_trilinear3d", 3, [8, 8, 8], False, kernel="resize")
for _kind in (
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
):
    _register(_kind, 2, [8, 8], False, kernel="resize")
register(Spec(names=("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), kernel="resize"))
