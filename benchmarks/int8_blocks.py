"""Is a difference between two int8 runtimes rounding or a fault? Every int8 block fed with the same numbers.

    python benchmarks/int8_blocks.py FILE.int8.onnx ... --runtimes openvino,tract

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

import click
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from dtp_edge.export import list_runtimes
from dtp_edge.export.onnx_wiring import makers, readers
from dtp_edge.export.runtime.child import run_child
from dtp_edge.export.runtimes import interpreter


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


def compare(path: Path, name: str, *, timeout_s: float = 300.0, memory_bytes: int = 3900 << 20) -> Blocks:
    """Run the blocks of a file in a runtime and compare them with ONNX Runtime's."""
    (runtime,) = [r for r in list_runtimes() if r.name == name]
    entry = onnx.load(str(path)).graph.input[0]
    shape = [d.dim_value or 1 for d in entry.type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "blocks.onnx"
        inputs, wanted = cut(path, x, target)
        job = {
            "model": str(target),
            "input_names": list(inputs),
            "output_names": list(wanted),
            "shapes": [list(v.shape) for v in inputs.values()],
            "dtypes": [v.dtype.name for v in inputs.values()],
            "threads": 1,
            "repeats": 0,
            "adapter": str(runtime.adapter),
            "distribution": runtime.distribution,
            "optimise": True,
        }
        done = run_child(
            interpreter(runtime), job, list(inputs.values()), Path(folder), timeout_s, memory_bytes
        )
    if done.status != "ok":
        return Blocks(f"{done.status}: {done.detail}")
    steps = {
        k: np.abs(got.reshape(-1).astype(int) - want.reshape(-1).astype(int))
        for (k, want), got in zip(wanted.items(), done.outputs, strict=True)
    }
    where = max(steps, key=lambda k: int(steps[k].max(initial=0)))
    everything = np.concatenate(list(steps.values()))
    return Blocks("ok", len(steps), int(everything.max()), float((everything > 0).mean()), where)


def without_roundings(path: Path, target: Path) -> Path:
    """Write the file without the roundings between a convolution and a sum, which OpenVINO leaves out."""
    model = onnx.load(str(path))
    producer, read_by = makers(model.graph), readers(model.graph)
    dropped: set[str] = set()
    for node in [n for n in model.graph.node if n.op_type == "QuantizeLinear"]:
        if getattr(producer.get(node.input[0]), "op_type", "") != "Conv":
            continue
        back = read_by[node.output[0]]
        users = [user for d in back for user in read_by.get(d.output[0], [])]
        if not users or {user.op_type for user in users} != {"Add"}:
            continue
        names = {d.output[0] for d in back}
        for user in users:
            for i, name in enumerate(user.input):
                user.input[i] = node.input[0] if name in names else name
        dropped |= names | {node.output[0]}
    left = [node for node in model.graph.node if node.output[0] not in dropped]
    del model.graph.node[:]
    model.graph.node.extend(left)
    onnx.save(model, str(target))
    return target


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runtimes", default="onnxruntime,openvino,tract")
def main(files: tuple[Path, ...], runtimes: str) -> None:
    """Print one line a file and runtime; exit code 4 where a block is wrong by more than one step."""
    wrong = False
    for path in files:
        for name in runtimes.split(","):
            found = compare(path, name)
            wrong |= found.worst > 1
            click.echo(f"{path.name} {name}: {found}")
    sys.exit(4 if wrong else 0)


if __name__ == "__main__":
    main()
