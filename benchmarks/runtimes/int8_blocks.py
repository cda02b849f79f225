"""Is a difference between two int8 runtimes rounding or a fault? Every int8 block fed with the same numbers.

    python -m benchmarks.runtimes.int8_blocks FILE.int8.onnx ... --runtimes openvino,tract

In a deep network one value that rounds to the other side changes what comes after it, and two correct
runtimes end as far apart as either is from fp32. So the file is cut at every int8 tensor: each block
(between two roundings) becomes an input-output pair of one file, fed with ONNX Runtime's own tensors.
Correct blocks differ by at most 1 step of int8, and rarely; a fault shows as more, with its block's name.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from benchmarks.runtimes import edge_networks
from dtp_edge.runtimes import list_runtimes
from dtp_edge.runtimes.child import Outcome, run_child
from dtp_edge.runtimes.trial import interpreter


@dataclass(frozen=True)
class Blocks:
    """How a runtime's int8 blocks compare: `worst` in steps, the `share` of values that differ at all."""

    status: str
    blocks: int = 0
    worst: int = 0
    share: float = 0.0
    where: str = ""

    def __str__(self) -> str:
        if self.status != "ok":
            return self.status
        verdict = "rounding" if self.worst <= 1 else f"fault at {self.where}"
        return (
            f"{verdict}: {self.blocks} blocks, at most {self.worst} steps, {self.share:.1e} of values differ"
        )


def cut(path: Path, x: np.ndarray, target: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Write the file of all blocks; return its inputs and the outputs that ONNX Runtime gives."""
    model = onnx.load(str(path))
    constants = {i.name for i in model.graph.initializer}
    made = [
        n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants
    ]
    values = _tensors(model, made, x)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            node.input[0] += "_in"
    inputs = {model.graph.input[0].name: x, **{f"{n}_in": v for n, v in values.items()}}
    for name, value in values.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(helper.make_tensor_value_info(f"{name}_in", kind, value.shape))
    del model.graph.output[:]
    for name, value in values.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, kind, value.shape))
    used = {name for node in model.graph.node for name in node.input}
    kept = [i for i in model.graph.input if i.name in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.save(model, str(target))
    return {k: v for k, v in inputs.items() if k in used}, values


def _tensors(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """Return int8 tensors of the whole network, every node computed as the file says."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    zero = {i.name: i.data_type for i in model.graph.initializer}
    kinds = {
        n.output[0]: zero.get(n.input[2], TensorProto.UINT8)
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and len(n.input) > 2
    }
    del whole.graph.output[:]
    whole.graph.output.extend(
        helper.make_tensor_value_info(n, kinds.get(n, TensorProto.UINT8), None) for n in names
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(names, {session.get_inputs()[0].name: x})
    return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}


def compare(path: Path, name: str, x: np.ndarray, **limits: Any) -> Blocks:
    """Run the blocks of a file in a runtime and compare them with ONNX Runtime's."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "blocks.onnx"
        inputs, wanted = cut(path, x, target)
        done = _run(target, name, inputs, list(wanted), folder, **limits)
    if done.status != "ok":
        return Blocks(f"{done.status}: {done.detail}")
    steps = {k: _steps(got, want) for (k, want), got in zip(wanted.items(), done.outputs, strict=True)}
    where = max(steps, key=lambda k: int(steps[k].max(initial=0)))
    everything = np.concatenate(list(steps.values()))
    return Blocks("ok", len(steps), int(everything.max()), float((everything > 0).mean()), where)


def first_difference(path: Path, name: str, x: np.ndarray, **limits: Any) -> str:
    """Run the whole network in a runtime and say at which rounding it first differs from ONNX Runtime."""
    model = onnx.load(str(path))
    constants = {i.name for i in model.graph.initializer}
    made = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]
    wanted = _tensors(model, [n.output[0] for n in made], x)
    del model.graph.output[:]
    for key, value in wanted.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.output.append(helper.make_tensor_value_info(key, kind, value.shape))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "whole.onnx"
        onnx.save(model, str(target))
        done = _run(target, name, {model.graph.input[0].name: x}, list(wanted), folder, **limits)
    if done.status != "ok":
        return f"whole network with its roundings as outputs: {done.status}: {done.detail}"
    maker = makers(model.graph)
    for node, want, got in zip(made, wanted.values(), done.outputs, strict=True):
        steps = _steps(got, want)
        if steps.any():
            kind = getattr(maker.get(node.input[0]), "op_type", "an input")
            count = f"{np.count_nonzero(steps)} of {steps.size} values by {steps.max()}"
            return f"first at {node.output[0]} ({kind}): {count}"
    return "no rounding differs where all are outputs"


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor; inputs and constants have none."""
    return {name: node for node in graph.node for name in node.output}


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor, in their order."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _steps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    return np.abs(got.reshape(-1).astype(int) - want.reshape(-1).astype(int))


def _run(
    target: Path,
    name: str,
    inputs: dict[str, np.ndarray],
    outputs: list[str],
    folder: str,
    *,
    timeout_s: float = 300.0,
    memory_bytes: int = 3900 << 20,
) -> Outcome:
    (runtime,) = [r for r in list_runtimes() if r.name == name]
    job = {
        "model": str(target),
        "input_names": list(inputs),
        "output_names": outputs,
        "shapes": [list(v.shape) for v in inputs.values()],
        "dtypes": [v.dtype.name for v in inputs.values()],
        "threads": 1,
        "repeats": 0,
        "adapter": str(runtime.adapter),
        "distribution": runtime.distribution,
        "optimise": True,
    }
    values = list(inputs.values())
    return run_child(interpreter(runtime), job, values, Path(folder), timeout_s, memory_bytes)


def with_roundings_shown(path: Path, target: Path) -> Path:
    """Write the file with the roundings between a convolution and a sum as outputs: none can be left out."""
    model = onnx.load(str(path))
    made, read_by = makers(model.graph), readers(model.graph)
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "QuantizeLinear"]:
        users = [user for d in read_by[node.output[0]] for user in read_by.get(d.output[0], [])]
        if getattr(made.get(node.input[0]), "op_type", "") == "Conv" and "Add" in {u.op_type for u in users}:
            kind = kinds[node.input[2]]
            model.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
    onnx.save(onnx.shape_inference.infer_shapes(model), str(target))
    return target


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runtimes", default="onnxruntime,openvino,tract")
def main(files: tuple[Path, ...], runtimes: str) -> None:
    """Print one line a file and runtime; exit code 4 where a block is wrong by more than one step."""
    wrong = False
    for path in files:
        for name in runtimes.split(","):
            entry = onnx.load(str(path)).graph.input[0]
            shape = [d.dim_value or 1 for d in entry.type.tensor_type.shape.dim]
            x = edge_networks.pixels(shape, seed=0)
            found = compare(path, name, x)
            wrong |= found.worst > 1
            click.echo(f"{path.name} {name}: {found}; {first_difference(path, name, x)}")
    sys.exit(4 if wrong else 0)


if __name__ == "__main__":
    main()
