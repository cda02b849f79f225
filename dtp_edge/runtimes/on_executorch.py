"""ExecuTorch, with the XNNPACK delegate for what it takes and portable kernels for the rest.

What a `.pte` file holds is read from the file: kernels that stayed behind are instructions of its plan, what
a delegate took is in the delegate's own payload, which the vendor's schema describes.
"""

from __future__ import annotations

import os
import tempfile

RUNTIME = {
    "distribution": "executorch",
    "extra": "runtimes-executorch",
    "about": "PyTorch's own: phones, boards, microcontrollers",
    "reads": "pte",
    "pins": ("torch==2.13.0", "executorch==1.5.1", "numpy", "safetensors", "jsonschema"),
}

_FREE = ("et_view", "executorch_prim")


def load(job):
    import torch
    from executorch.runtime import Runtime, Verification

    torch.set_num_threads(job["threads"])
    _limit_threads(job["threads"])
    program = Runtime.get().load_program(job["model"], verification=Verification.Minimal)
    method = program.load_method("forward")

    def run(inputs):
        outputs = method.execute([torch.from_numpy(x) for x in inputs])
        return [o.numpy().copy() for o in outputs]

    run.program = program  # the method reads the program's memory  # type: ignore[attr-defined]
    return run


def _limit_threads(threads: int) -> None:
    """Set the size of the pool that XNNPACK computes in; by itself it has a thread a core."""
    from executorch.extension.pybindings.portable_lib import (
        _threadpool_get_thread_count,
        _unsafe_reset_threadpool,
    )

    if _threadpool_get_thread_count() != threads:  # what was loaded before keeps the pool that it was given
        _unsafe_reset_threadpool(threads)
    if (found := _threadpool_get_thread_count()) != threads:
        raise RuntimeError(f"ExecuTorch computes in {found} threads, not in {threads}")


def inspect(job) -> dict:
    with open(job["model"], "rb") as file:
        return facts_of(file.read())


def facts_of(data: bytes) -> dict:
    """Return who computes what in a program, and the bytes that its memory plan sets aside."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    program = deserialize_pte_binary(data).program
    (plan,) = [p for p in program.execution_plan if p.name == "forward"]
    operators, units = [], []
    for chain in plan.chains:
        for step in chain.instructions:
            call = step.instr_args
            kind = type(call).__name__
            if kind == "KernelCall":
                one = plan.operators[call.op_index]
                if not one.name.startswith(_FREE):
                    name = f"{one.name.split('::')[-1]}_{len(operators)}"
                    operators.append({"name": name, "kind": one.name, "delegated": False})
            elif kind == "DelegateCall":
                delegate = plan.delegates[call.delegate_index]
                units.append(delegate.id)
                inside = _inside(program, delegate)
                operators += [{"name": n, "kind": k, "delegated": True} for n, k in inside]
    return {
        "unit": ", ".join(dict.fromkeys(units)) or "no delegate",
        "operators": operators,
        "memory_bytes": sum(plan.non_const_buffer_sizes),
        "memory_of": "the memory plan of the file; what a delegate allots for itself is not in it",
    }


def _inside(program, delegate) -> list:
    """Return (name, kind) of what a delegate took; one entry for one whose payload is not XNNPACK's."""
    data = bytes(program.backend_delegate_data[delegate.processed.index].data)
    if "xnnpack" not in delegate.id.lower():
        return [(delegate.id, delegate.id)]
    nodes = xnnpack_graph(data)["xnodes"]
    kinds = [node["xnode_union_type"].removeprefix("XNN").removeprefix("_XNN") for node in nodes]
    return [(f"{kind}_{place}", kind) for place, kind in enumerate(kinds)]


def xnnpack_graph(payload: bytes) -> dict:
    """Return the graph in an XNNPACK payload, by the schema that the package ships."""
    import importlib.resources as resources
    import json
    import re

    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    start, size = header.flatbuffer_offset, header.flatbuffer_size
    schema = resources.files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "graph.bin")
        with open(path, "wb") as file:
            file.write(payload[start : start + size])
        _flatc_decompile(folder, str(schema), path, ["--raw-binary"])
        with open(os.path.join(folder, "graph.json"), encoding="utf-8") as file:
            return json.loads(re.sub(r":\s*([-+]?)(inf|nan)\b", ": null", file.read()))  # no JSON numbers
