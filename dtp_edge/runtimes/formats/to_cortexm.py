"""ExecuTorch's `.pte` for Arm's Cortex-M: int8 by its Cortex-M back end, whose operators are CMSIS-NN's.

Scratch memory of the kernels is planned for a Cortex-M55 (MVE), the back end's own choice.
"""

from __future__ import annotations

FORMAT = {
    "about": "ExecuTorch for Arm's Cortex-M (CMSIS-NN kernels)",
    "runtime": "cortexm",
    "suffixes": (".cortexm.pte",),
    "made_of": "pruned",
    "precisions": ("int8",),
}


def make(job, samples) -> dict:
    import torch
    from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
    from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
    from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer
    from executorch.exir import to_edge
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from dtp_edge.runtimes.formats.stored_network import exported_program, stored_network

    module, example = stored_network(job)
    last = tuple(x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in example)
    module = module.to(memory_format=torch.channels_last)
    with torch.no_grad():
        prepared = prepare_pt2e(exported_program(module, last).module(), CortexMQuantizer())
        for i in range(len(samples[0])):
            prepared(*(_like(torch.from_numpy(x[i])) for x in samples))
        rounded = convert_pt2e(prepared)
        edge = to_edge(exported_program(rounded, last), compile_config=cortex_m_edge_compile_config())
        edge._edge_programs["forward"] = CortexMPassManager(edge.exported_program()).transform()
        lowered = edge.to_executorch()
    with open(job["target"], "wb") as file:
        file.write(lowered.buffer)
    return {}


def _like(x):
    import torch

    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
