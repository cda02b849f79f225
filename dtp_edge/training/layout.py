"""How images and weights lie in memory, and the one layout that PyTorch's CPU kernels do not survive.

oneDNN's backward pass of a strided 1 x 1 convolution writes past its workspace when the tensors are laid out
channels-last, the input channels are no multiple of its block (16, or 8 without AVX-512) and it runs on two
threads or more: wrong gradients, or an abort much later ("double free or corruption"). Pruned widths are such
channels. https://github.com/uxlfoundation/oneDNN/issues/6035, seen in torch 2.13 and 2.15.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from dtp_edge.errors import InputError
from dtp_edge.ops.nodes import lookup

_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)


def arranged(x: Tensor, channels_last: bool) -> Tensor:
    """Return images `[B, C, H, W]` in the layout that was asked for, whatever a data set's permute left."""
    if x.ndim != 4:
        return x
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def arrange_weights(module: nn.Module, channels_last: bool, device: torch.device) -> None:
    """Lay out weights in place so that a CPU's convolutions compute as `channels_last` says.

    Raises `InputError` when that is channels-last and the network has a convolution that it breaks.
    """
    if device.type != "cpu":
        return
    if channels_last:
        layer = next(strided_pointwise(module), None)
        if layer is not None:
            raise InputError(
                f"channels_last is not safe on a CPU with {layer}, a 1 x 1 convolution with a stride: "
                "its gradients are computed wrongly there (oneDNN issue 6035)",
                hint="Leave channels_last out for this network, or train on a GPU.",
            )
        return
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous()


def strided_pointwise(module: nn.Module) -> Iterator[str]:
    """Yield the 1 x 1 convolutions with a stride, of modules and of graphs of ATen operators."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and set(part.kernel_size) == {1} and part.stride != (1, 1):
            yield name or "the network"
        if isinstance(part, fx.GraphModule):
            yield from _in_graph(part)


def _in_graph(graph_module: fx.GraphModule) -> Iterator[str]:
    for node in graph_module.graph.nodes:
        if node.target not in _CONVOLUTIONS or node.args[1].op != "get_attr":
            continue
        name = str(node.args[1].target)
        kernel = lookup(graph_module, name).shape[2:]
        stride = node.args[3] if len(node.args) > 3 else 1
        strides = [stride] if isinstance(stride, int) else stride
        if set(kernel) == {1} and any(s > 1 for s in strides):
            yield name.removesuffix(".weight")
