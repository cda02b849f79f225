"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value


@op("Gemm")
def gemm(c: Context) -> Value:
    x = c.call(torch.transpose, c.value(0), 0, 1) if c.flag("transA") else c.value(0)
    weight = c.value(1) if c.flag("transB") else c.call(torch.transpose, c.value(1), 0, 1)
    alpha, beta, bias = float(c.get("alpha", 1.0)), float(c.get("beta", 1.0)), c.optional(2)
    plain = alpha == 1.0 and beta == 1.0 and (bias is None or bias.shape == weight.shape[:1])
    if plain and weight.fixed:
        return c.call(F.linear, x, weight, bias)
    product = c.call(F.linear, x, weight) if weight.fixed else c.call(torch.matmul, x, _turned(c, weight))
    if alpha != 1.0:
        product = c.call(torch.mul, product, alpha)
    if bias is None:
        return product
    return c.call(torch.add, product, bias if beta == 1.0 else c.call(torch.mul, bias, beta))


def _turned(c: Context, weight: Value) -> Value:
    return c.call(torch.transpose, weight, 0, 1)


@op("MatMul")
def matmul(c: Context) -> Value:
    """A product with a stored matrix is a linear layer, whose outputs can be pruned."""
    x, weight = c.value(0), c.value(1)
    if weight.fixed and not x.fixed and len(weight.shape) == 2:
        return c.call(F.linear, x, _turned(c, weight))
    return c.call(torch.matmul, x, weight)


@op("Einsum")
def einsum(c: Context) -> Value:
    equation = c.get("equation", "").replace(" ", "")
    return c.call(torch.einsum, equation, *[c.value(i) for i in range(c.count())])
