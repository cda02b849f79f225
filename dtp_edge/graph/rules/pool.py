"""Pooling, interpolation and reductions over dimensions without labels."""

from __future__ import annotations

from typing import Any

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import Context, Value


def _spatial(count: int):
    def window(ctx: Context, a: Arguments, out: Any) -> None:
        """Windows over the last `count` dimensions; the others pass through."""
        x = ctx.value(a.get("self", a.get("input")))
        for value in out if isinstance(out, list) else [out]:
            for dim in range(x.rank):
                rows = ctx.read(x, dim)
                if dim < x.rank - count:
                    value.labels[dim] = rows
                else:
                    ctx.freeze(rows, f"{ctx.op} over a labelled spatial dimension")

    return window


for _count in (1, 2, 3):
    _names = [
        f"{kind}{_count}d"
        for kind in (
            "max_pool", "avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool", "lp_pool",
            "reflection_pad", "replication_pad", "upsample_nearest",
            "upsample_nearest_exact", "_upsample_nearest_exact",
        )
    ]  # fmt: skip
    _names.append(f"max_pool{_count}d_with_indices")
    rule(*_names)(_spatial(_count))
rule(
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    
)(_spatial(2))  # fmt: skip
rule("upsample_linear1d")(_spatial(1))
rule("upsample_trilinear3d")(_spatial(3))


@rule("mean", "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "max", "min", "prod", "argmax",
      "argmin", "any", "all", "logsumexp", "linalg_vector_norm", "norm", "nansum", "nanmean")  # fmt: skip
def reduce(ctx: Context, a: Arguments, out: Any) -> None:
    """Reduced dimensions go; a sum or mean over labelled ones needs the masks, others must stay."""
    x = ctx.value(a["self"])
    dims = a.get("dim", None)
    if isinstance(dims, int):
        dims = [dims]
    reduced = set(range(x.rank)) if dims is None or len(dims) == 0 else {int(d) % x.rank for d in dims}
    keepdim = bool(a.get("keepdim", False))
    for dim in sorted(reduced):
        rows = ctx.read(x, dim)
        if ctx.op in ("mean", "var", "std", "var_mean", "std_mean") and rows is not None and dims is not None:
            ctx.statistics(x, dim)
        elif ctx.op == "sum" or (ctx.op in ("linalg_vector_norm",) and a.get("ord", 2) == 2):
            ctx.contract(x, dim, 0)
        else:
            ctx.freeze(rows, f"{ctx.op} over the channels")
    labels = [None if d in reduced else ctx.read(x, d) for d in range(x.rank) if keepdim or d not in reduced]
    for value in out if isinstance(out, list) else [out]:
        if isinstance(value, Value):
            value.labels[:] = labels
