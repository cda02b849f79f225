"""Small ONNX graphs: one a case of an operator, and random chains; run in ONNX Runtime as the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32
IR = {7: 4, 8: 4, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


class Graph:
    """A graph under construction. Constants are given as arrays, values by name."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset, self.rng = opset, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, *shape: int, name: str | None = None) -> str:
        return self.store((self.rng.standard_normal(shape) * 0.4).astype(np.float32), name)

    def store(self, array: Any, name: str | None = None) -> str:
        self.stored.append(numpy_helper.from_array(np.asarray(array), name or f"stored_{len(self.stored)}"))
        return self.stored[-1].name

    def add(self, op: str, *inputs: Any, outputs: int = 1, name: str | None = None, **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self.store(i) for i in inputs]
        made = [
            name or f"value_{len(self.nodes)}",
            *(f"extra_{len(self.nodes)}_{k}" for k in range(1, outputs)),
        ]
        self.nodes.append(helper.make_node(op, names, made, **attributes))
        return made[0]

    def model(self, *outputs: str, kinds: Sequence[int] = ()) -> onnx.ModelProto:
        kinds = [*kinds, *[FLOAT] * (len(outputs) - len(kinds))]
        bare = self._model(
            [helper.make_tensor_value_info(o, k, None) for o, k in zip(outputs, kinds, strict=True)]
        )
        session = ort.InferenceSession(bare.SerializeToString(), providers=["CPUExecutionProvider"])
        shapes = [list(o.shape) for o in session.get_outputs()]
        return self._model(
            [helper.make_tensor_value_info(*port) for port in zip(outputs, kinds, shapes, strict=True)]
        )

    def _model(self, ports: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "graph", self.inputs, ports, self.stored)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR[self.opset])

    def shape(self, name: str) -> list[int]:
        return [d.dim_value for d in self.model(name).graph.output[0].type.tensor_type.shape.dim]

    def save(self, path: Path, *outputs: str, kinds: Sequence[int] = ()) -> Path:
        onnx.save(self.model(*outputs, kinds=kinds), path)
        return path


def truth(path: Path | str, inputs: Sequence[Any]) -> list[np.ndarray]:
    """What ONNX Runtime computes from the file."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {i.name: np.asarray(x) for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return [np.asarray(y) for y in session.run(None, feed)]
