"""Arm's Ethos-U through ExecuTorch. Nothing here runs one: what its compiler was given (`.tosa`, beside the
program) runs in Arm's reference model of TOSA, between the roundings that the program itself states.
"""

from __future__ import annotations

import struct

RUNTIME = {
    "distribution": "executorch",
    "extra": "",
    "about": "Arm's Ethos-U55, in Arm's reference model",
    "reads": "ethosu.pte",
    "pins": (
        *("torch==2.13.0", "executorch==1.5.1", "ethos-u-vela==5.1.0", "tosa-tools==2026.5.0"),
        *("numpy", "safetensors", "jsonschema"),
    ),
}
TIMED = False  # a reference model takes as long as it takes
_QUANTIZE, _DEQUANTIZE = (
    "quantized_decomposed::quantize_per_tensor",
    "quantized_decomposed::dequantize_per_tensor",
)
_BLOCK = 16  # bytes that Vela's stream is aligned to


def load(job):
    import numpy as np
    import tosa_reference_model

    _, plan = _read(job["model"])
    steps = [_step(plan, i.instr_args) for chain in plan.chains for i in chain.instructions]
    kinds = [kind for kind, _ in steps]
    behind = [kind for kind in kinds if kind not in (_QUANTIZE, _DEQUANTIZE, "delegate")]
    if behind or kinds.count("delegate") != 1:
        raise ValueError(f"Ethos-U does not take all of it, left behind: {', '.join(behind) or 'nothing'}")
    with open(job["model"][: -len("pte")] + "tosa", "rb") as file:
        graph = file.read()
    scales = {values[-1]: values for kind, values in steps if kind == _QUANTIZE}
    back = {values[0]: values for kind, values in steps if kind == _DEQUANTIZE}
    (delegate,) = (values for kind, values in steps if kind == "delegate")
    entries = [place for place in delegate if place in scales]
    exits = [place for place in delegate if place in back]

    def run(inputs):
        given = dict(zip(plan.inputs, inputs))  # noqa: B905  # any Python
        rounded = [_rounded(given[scales[e][0]], *_numbers(plan, scales[e])) for e in entries]
        made, status = tosa_reference_model.run(graph, rounded, verbosity="NONE")
        if status != tosa_reference_model.GraphStatus.TOSA_VALID:
            raise ValueError(f"the reference model says {status}")
        found = {}
        for place, value in zip(exits, made):  # noqa: B905
            scale, zero, *_ = _numbers(plan, back[place])
            found[back[place][-1]] = (value.astype(np.float32) - zero) * np.float32(scale)
        return [found[place] for place in plan.outputs]

    return run


def inspect(job) -> dict:
    """Return the operators that Vela was given, what stayed behind, and the memory that Vela asks for."""
    from tosa import Op, TosaGraph

    program, plan = _read(job["model"])
    kinds = [_step(plan, i.instr_args)[0] for chain in plan.chains for i in chain.instructions]
    behind = [
        {"name": f"{k}_{i}", "kind": k, "delegated": False} for i, k in enumerate(kinds) if k != "delegate"
    ]
    with open(job["model"][: -len("pte")] + "tosa", "rb") as file:
        block = TosaGraph.TosaGraph.GetRootAs(file.read(), 0).Regions(0).Blocks(0)
    names = {value: name for name, value in vars(Op.Op).items() if isinstance(value, int)}
    inside = [names.get(block.Operators(i).Op(), "?") for i in range(block.OperatorsLength())]
    taken = [
        {"name": f"{kind}_{i}", "kind": kind, "delegated": True}
        for i, kind in enumerate(inside)
        if not kind.startswith("CONST")
    ]
    facts = {"unit": "Ethos-U55-128 (Vela)", "operators": [*taken, *behind]}
    scratch = [_scratch(bytes(program.backend_delegate_data[d.processed.index].data)) for d in plan.delegates]
    if all(scratch):
        facts["memory_bytes"] = sum(scratch)
        facts["memory_of"] = "the scratch memory that Vela sets aside, inputs and outputs included"
    return facts


def _read(path: str):
    from executorch.exir._serialize._program import deserialize_pte_binary

    with open(path, "rb") as file:
        program = deserialize_pte_binary(file.read()).program
    (plan,) = [p for p in program.execution_plan if p.name == "forward"]
    return program, plan


def _step(plan, call):
    """Return the name of an instruction's operator, and the numbers of its values."""
    if type(call).__name__ == "DelegateCall":
        return "delegate", list(call.args)
    return plan.operators[call.op_index].name, list(call.args)


def _numbers(plan, places):
    """Return scale, zero and limits of a rounding."""
    scale, zero, low, high = (plan.values[p].val for p in places[1:5])
    return scale.double_val, zero.int_val, low.int_val, high.int_val


def _rounded(value, scale, zero, low, high):
    import numpy as np

    return np.clip(np.rint(value / np.float32(scale)) + zero, low, high).astype(np.int8)


def _scratch(stream: bytes) -> int:
    """Return the size in Vela's block `scratch_size`: a name, a length, and the data, aligned; 0 if none."""
    place = 0
    while place + 2 * _BLOCK <= len(stream):
        name = stream[place : place + _BLOCK].rstrip(b"\0")
        (length,) = struct.unpack_from("<I", stream, place + _BLOCK)
        if name == b"scratch_size":
            return struct.unpack_from("<I", stream, place + 2 * _BLOCK)[0]
        place += 2 * _BLOCK + -(-length // _BLOCK) * _BLOCK
    return 0
