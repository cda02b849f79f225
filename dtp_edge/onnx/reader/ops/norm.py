"""Normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value


@op("BatchNormalization")
def batch_norm(c: Context) -> Value:
    c.only_output("runs in training mode: it gives running statistics")
    if c.opset >= 14 and c.flag("training_mode"):
        raise c.refuse("runs in training mode")
    if c.opset < 9 and not c.flag("spatial", 1):
        raise c.refuse("normalises every position on its own (spatial = 0)")
    c.get("momentum", 0.9)  # of training
    x, weight, bias, mean, var = (c.value(i) for i in range(5))
    mean.buffer = var.buffer = True
    return c.call(F.batch_norm, x, mean, var, weight, bias, False, 0.1, c.get("epsilon", 1e-5))


@op("InstanceNormalization")
def instance_norm(c: Context) -> Value:
    x, weight, bias = (c.value(i) for i in range(3))
    return c.call(F.instance_norm, x, weight=weight, bias=bias, eps=c.get("epsilon", 1e-5))


@op("GroupNormalization")
def group_norm(c: Context) -> Value:
    """Up to opset 20 scale and bias belong to groups, later to channels."""
    x, weight, bias, groups = c.value(0), c.value(1), c.value(2), int(c.get("num_groups", 1))
    c.get("stash_type", 1)
    if c.opset < 21:
        each = c.shape(0)[1] // groups
        weight, bias = (c.call(torch.repeat_interleave, v, each) for v in (weight, bias))
    return c.call(F.group_norm, x, groups, weight, bias, c.get("epsilon", 1e-5))


@op("LayerNormalization", "RMSNormalization")
def layer_norm(c: Context) -> Value:
    c.only_output("gives the statistics that it computed")
    c.get("stash_type", 1)
    x, weight, epsilon = c.value(0), c.value(1), c.get("epsilon", 1e-5)
    shape = list(x.shape[c.axis(-1) :])
    plain = list(weight.shape) == shape
    scale = weight if plain else None
    if c.type == "RMSNormalization":
        y = c.call(F.rms_norm, x, shape, scale, epsilon)
    else:
        bias = c.optional(2)
        plain_bias = bias if plain and bias is not None and list(bias.shape) == shape else None
        y = c.call(F.layer_norm, x, shape, scale, plain_bias, epsilon)
    if not plain:
        y = c.call(torch.mul, y, weight)
    if c.type == "LayerNormalization" and c.has(2) and not (plain and list(c.shape(2)) == shape):
        y = c.call(torch.add, y, c.value(2))
    return y


@op("LRN")
def lrn(c: Context) -> Value:
    size = int(c.get("size", 1))
    if size % 2 == 0:
        raise c.refuse("looks at an even number of channels")
    alpha, beta, bias = c.get("alpha", 1e-4), c.get("beta", 0.75), c.get("bias", 1.0)
    return c.call(F.local_response_norm, c.value(0), size, alpha, beta, bias)


@op("LpNormalization")
def lp_normalisation(c: Context) -> Value:
    norm = c.call(torch.linalg.vector_norm, c.value(0), float(c.get("p", 2)), [c.axis(-1)], True)
    return c.call(torch.div, c.value(0), norm)


@op("Softmax", "LogSoftmax", "Hardmax")
def softmax(c: Context) -> Value:
    """Before opset 13 all dimensions from `axis` on are one (and `axis` is 1 by default)."""
    x, rank = c.value(0), c.rank()
    axis = c.axis(-1 if c.opset >= 13 else 1)
    if c.opset >= 13 or axis == rank - 1 or all(size == 1 for size in x.shape[axis + 1 :]):
        return _along(c, x, axis)
    if c.type == "Hardmax":
        raise c.refuse("ranges over several dimensions")
    function = torch.logsumexp if c.type == "LogSoftmax" else _exp_share
    dims = list(range(axis, rank))
    found = c.call(function, x, dims, keepdim=True)
    return c.call(torch.sub, x, found) if c.type == "LogSoftmax" else found


def _exp_share(x: torch.Tensor, dims: list[int], keepdim: bool) -> torch.Tensor:
    return torch.exp(x - torch.logsumexp(x, dims, keepdim=keepdim))


def _along(c: Context, x: Value, axis: int) -> Value:
    if c.type == "Hardmax":
        best = c.call(torch.argmax, x, axis)
        hot = c.call(F.one_hot, best, x.shape[axis])
        return c.call(torch.Tensor.to, c.call(torch.movedim, hot, -1, axis), x.dtype)
    return c.call(F.softmax if c.type == "Softmax" else F.log_softmax, x, dim=axis)
