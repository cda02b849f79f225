"""Arm's Cortex-M through ExecuTorch. Nothing here runs one: the program's own instructions are run, one by
one, in the memory that its plan sets aside, by the reference operators that the back end ships in Python.
"""

from __future__ import annotations

RUNTIME = {
    "distribution": "executorch",
    "extra": "",
    "about": "Arm's Cortex-M, by the back end's reference operators",
    "reads": "cortexm.pte",
    "pins": ("torch==2.13.0", "executorch==1.5.1", "numpy", "safetensors", "jsonschema"),
}
TIMED = False  # a reference operator takes as long as it takes
_KERNELS = "cortex_m::"
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def load(job):
    import executorch.backends.cortex_m.passes.cortex_m_pass_manager  # its operators come with it
    import executorch.exir.passes.dim_order_ops_registry  # noqa: F401
    import torch

    program, plan = _read(job["model"])
    machine = _Machine(program, plan)

    def run(inputs):
        for place, value in zip(plan.inputs, inputs):  # noqa: B905  # any Python
            machine.value(place).copy_(torch.from_numpy(value))
        with torch.no_grad():
            machine.run()
        return [machine.value(place).contiguous().numpy().copy() for place in plan.outputs]

    return run


def inspect(job) -> dict:
    """Return the kernels in running order: CMSIS-NN's, and portable ones, which stay behind; and the plan."""
    _, plan = _read(job["model"])
    names = [plan.operators[call.op_index].name for call in _calls(plan)]
    operators = [
        {
            "name": f"{name.rpartition('::')[2]}_{i}",
            "kind": name.replace("quantized_", ""),  # a kind of its own is only what rounds
            "delegated": name.startswith(_KERNELS),
        }
        for i, name in enumerate(names)
    ]
    return {
        "unit": "CMSIS-NN",
        "operators": operators,
        "memory_bytes": sum(plan.non_const_buffer_sizes),
        "memory_of": "ExecuTorch's memory plan, with inputs, outputs and the kernels' scratch (Cortex-M55)",
    }


class _Machine:
    """The values of a program in the memory that its plan says, and its instructions."""

    def __init__(self, program, plan) -> None:
        import torch

        self.plan = plan
        self.arenas = [torch.zeros(size, dtype=torch.uint8) for size in plan.non_const_buffer_sizes]
        self.constants = [bytearray(buffer.storage) for buffer in program.constant_buffer]
        self.known: dict = {}

    def run(self) -> None:
        for call in _calls(self.plan):
            operator, names = _operator(self.plan.operators[call.op_index])
            *given, target = (self.value(place) for place in call.args[:-1])
            positional = [v for name, v in zip(names, given) if not name[1]]  # noqa: B905
            by_name = {name[0]: v for name, v in zip(names, given) if name[1]}  # noqa: B905
            target.copy_(operator(*positional, **by_name))

    def value(self, place: int):
        """Return what stands at a place: a tensor in its memory, a number, or a list of them."""
        if place not in self.known:
            self.known[place] = self._made(self.plan.values[place].val)
        return self.known[place]

    def _made(self, value):
        kind = type(value).__name__
        if kind == "Tensor":
            return self._tensor(value)
        if kind == "Null":
            return None
        if kind.endswith("List"):
            return [self.value(i) if kind == "IntList" else i for i in value.items]
        return next(iter(vars(value).values()))  # a number, a truth or a word

    def _tensor(self, about):
        import math

        import torch

        dtype = getattr(torch, _DTYPES[int(about.scalar_type)])
        size = math.prod(about.sizes) * dtype.itemsize
        if about.data_buffer_idx:
            memory = torch.frombuffer(self.constants[about.data_buffer_idx], dtype=torch.uint8)[:size]
        elif about.allocation_info is None:
            memory = torch.zeros(size, dtype=torch.uint8)
        else:
            start = about.allocation_info.memory_offset_low + (about.allocation_info.memory_offset_high << 32)
            memory = self.arenas[about.allocation_info.memory_id][start : start + size]
        order = list(about.dim_order)
        stored = memory.view(dtype).reshape([about.sizes[d] for d in order])
        return stored.permute([order.index(d) for d in range(len(order))])


def _calls(plan) -> list:
    """Return the kernel calls in running order. What jumps or hands over to a delegate is no such program."""
    calls = [step.instr_args for chain in plan.chains for step in chain.instructions]
    foreign = {type(call).__name__ for call in calls} - {"KernelCall"}
    if foreign:
        raise ValueError(f"the program holds more than kernel calls: {', '.join(sorted(foreign))}")
    return calls


def _operator(about) -> tuple:
    """Return the operator that makes what an `out` kernel writes, and (name, by keyword) of its arguments."""
    import torch

    space, _, name = about.name.partition("::")
    overload = about.overload.removesuffix("out").removesuffix("_") or "default"
    try:
        operator = getattr(getattr(getattr(torch.ops, space), name), overload)
    except AttributeError:
        raise ValueError(f"no reference operator computes {about.name}.{about.overload}") from None
    return operator, [(a.name, a.kwarg_only) for a in operator._schema.arguments]


def _read(path: str):
    from executorch.exir._serialize._program import deserialize_pte_binary

    with open(path, "rb") as file:
        program = deserialize_pte_binary(file.read()).program
    (plan,) = [p for p in program.execution_plan if p.name == "forward"]
    return program, plan
