"""Small layer graphs written by hand, so that cost's tests need neither torch nor tracing."""

from __future__ import annotations

import numpy as np

from dtp_edge.graph.layers import Dim, Layer, LayerGraph, Tensor


class Sketch:
    """Builds a `LayerGraph`; every `width(n)` is a new prunable channel dimension of n atoms."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.tensors: dict[str, Tensor] = {}
        self.widths: list[np.ndarray] = []
        self.n_atoms = 0
        self.outputs: tuple[str, ...] = ()

    def width(self, n: int) -> Dim:
        self.widths.append(np.arange(self.n_atoms, self.n_atoms + n, dtype=np.int32)[:, None])
        self.n_atoms += n
        return Dim(n, len(self.widths) - 1)

    def tensor(self, name: str, shape, role: str, dtype: str = "float32") -> str:
        self.tensors[name] = Tensor(
            name, tuple(d if isinstance(d, Dim) else Dim(d) for d in shape), role, dtype
        )
        return name

    def op(self, name: str, op: str, inputs, shape, **attributes) -> str:
        out = self.tensor(f"{name}_out", shape, "activation")
        self.layers.append(Layer(name, op, name, tuple(inputs), (out,), attributes))
        return out

    def conv(self, name: str, x: str, cout, k: int = 1, stride: int = 1, depthwise: bool = False) -> str:
        n, cin, h, w = self.tensors[x].shape
        cout = cout if isinstance(cout, Dim) else Dim(cout)
        weight = self.tensor(f"{name}.weight", (cout, 1 if depthwise else cin, k, k), "parameter")
        size = [(d.size + stride - 1) // stride for d in (h, w)]
        groups = cin.size if depthwise else 1
        return self.op(
            name,
            "conv2d",
            (x, weight),
            (n, cout, *size),
            kernel_size=(k, k),
            stride=(stride, stride),
            padding=(k // 2, k // 2),
            dilation=(1, 1),
            groups=groups,
            transposed=False,
        )

    def norm(self, name: str, x: str) -> str:
        shape = self.tensors[x].shape
        names = [self.tensor(f"{name}.{p}", (shape[1],), "parameter") for p in ("weight", "bias")]
        names += [self.tensor(f"{name}.{p}", (shape[1],), "buffer") for p in ("running_mean", "running_var")]
        return self.op(name, "batch_norm", (x, *names), shape)

    def relu(self, name: str, x: str) -> str:
        return self.op(name, "relu", (x,), self.tensors[x].shape)

    def add(self, name: str, a: str, b: str) -> str:
        return self.op(name, "add", (a, b), self.tensors[a].shape)

    def linear(self, name: str, x: str, cout) -> str:
        *rows, cin = self.tensors[x].shape
        names = [
            self.tensor(f"{name}.weight", (cout, cin), "parameter"),
            self.tensor(f"{name}.bias", (cout,), "parameter"),
        ]
        return self.op(name, "linear", (x, *names), (*rows, cout))

    def graph(self, *outputs: str) -> LayerGraph:
        inputs = tuple(n for n, t in self.tensors.items() if t.role == "input")
        return LayerGraph(tuple(self.layers), self.tensors, tuple(self.widths), self.n_atoms, inputs, outputs)


def residual_net(depth: int = 3, image: int = 32) -> LayerGraph:
    """A ResNet-20-like network: `3 * depth` blocks, a residual stream and an inner width a block."""
    s = Sketch()
    x = s.tensor("x", (1, 3, image, image), "input")
    stream = s.width(16)
    x = s.relu("relu", s.norm("bn", s.conv("conv", x, stream, 3)))
    for stage in range(3):
        for block in range(depth):
            name = f"s{stage}b{block}"
            stride = 2 if stage and not block else 1
            inner = s.width(16 * 2**stage)
            shortcut = x
            if stride == 2:
                stream = s.width(16 * 2**stage)
                shortcut = s.norm(f"{name}.dbn", s.conv(f"{name}.down", x, stream, 1, 2))
            y = s.relu(f"{name}.relu1", s.norm(f"{name}.bn1", s.conv(f"{name}.conv1", x, inner, 3, stride)))
            y = s.norm(f"{name}.bn2", s.conv(f"{name}.conv2", y, stream, 3))
            x = s.relu(f"{name}.relu2", s.add(f"{name}.add", y, shortcut))
    x = s.op("pool", "mean", (x,), (1, stream))
    return s.graph(s.linear("fc", x, 10))
