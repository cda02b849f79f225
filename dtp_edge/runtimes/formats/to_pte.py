"""ExecuTorch's `.pte`, for the XNNPACK delegate: fp32, or int8 by its own quantiser (pt2e).

Runs under the interpreter that has executorch. The facts that it returns hold what the memory plan would be
if no delegate took anything: the activations that portable kernels need, which a prediction can be held
against; a delegate's own workspace is in no plan.
"""

from __future__ import annotations

FORMAT = {
    "about": "ExecuTorch with XNNPACK: phones and boards",
    "runtime": "executorch",
    "suffixes": (".pte",),
    "made_of": "pruned",
    "precisions": ("fp32", "int8"),
}


def make(job, samples) -> dict:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from dtp_edge.runtimes.formats.stored_network import exported_program, stored_network

    module, example = stored_network(job)
    with torch.no_grad():
        if job["precision"] == "int8":
            module = quantised(module, example, samples)
        program = exported_program(module, example)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        with open(job["target"], "wb") as file:
            file.write(lowered.buffer)
        return planned(module, example)


def quantised(module, example, samples):
    """Return the module with int8 weights (per output channel) and activations, ranges from the samples."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from dtp_edge.runtimes.formats.stored_network import exported_program

    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(exported_program(module, example).module(), quantizer)
    for i in range(len(samples[0])):
        prepared(*(torch.from_numpy(x[i]) for x in samples))
    return convert_pt2e(prepared)


def planned(module, example) -> dict:
    """Return the bytes that ExecuTorch's planner sets aside for activations where no delegate takes any.

    Linear layers are kept whole: taken apart, their transposed weights would count as activations.
    """
    import torch
    from executorch.exir import EdgeCompileConfig, to_edge

    from dtp_edge.runtimes.formats.stored_network import exported_program

    try:
        kept = EdgeCompileConfig(preserve_ops=[torch.ops.aten.linear.default])
        program = to_edge(exported_program(module, example), compile_config=kept).to_executorch()
    except Exception as error:  # no portable kernel for one: the plan is unknown, the file is not
        return {"memory_bytes": None, "memory_of": f"no plan: {type(error).__name__}: {error}"[:200]}
    (plan,) = [p for p in program.executorch_program.execution_plan if p.name == "forward"]
    return {
        "memory_bytes": sum(plan.non_const_buffer_sizes),
        "memory_of": "ExecuTorch's memory plan with portable kernels; XNNPACK allots its own workspace",
    }
