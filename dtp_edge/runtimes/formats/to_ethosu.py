"""ExecuTorch's `.pte` for Arm's Ethos-U: int8 by its Arm back end, compiled by Vela for an Ethos-U55-128.

Beside the program stands what Vela was given, in Arm's TOSA (`.tosa`): nothing here runs an Ethos-U, but
Arm's reference model of TOSA computes bit for bit what one must.
"""

from __future__ import annotations

ACCELERATOR = "ethos-u55-128"
FORMAT = {
    "about": "ExecuTorch for Arm's Ethos-U55 (128 MACs a cycle)",
    "runtime": "ethosu",
    "suffixes": (".ethosu.pte", ".ethosu.tosa"),
    "made_of": "pruned",
    "precisions": ("int8",),
}


def make(job, samples) -> dict:
    import torch
    from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner
    from executorch.backends.arm.quantizer import EthosUQuantizer, get_symmetric_quantization_config
    from executorch.backends.arm.tosa.compile_spec import TosaCompileSpec
    from executorch.backends.arm.tosa.partitioner import TOSAPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from dtp_edge.runtimes.formats.stored_network import exported_program, stored_network

    module, example = stored_network(job)
    specification = EthosUCompileSpec(ACCELERATOR)
    quantizer = EthosUQuantizer(specification)
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    with torch.no_grad():
        prepared = prepare_pt2e(exported_program(module, example).module(), quantizer)
        for i in range(len(samples[0])):
            prepared(*(torch.from_numpy(x[i]) for x in samples))
        rounded = convert_pt2e(prepared)
        lowered = to_edge_transform_and_lower(
            exported_program(rounded, example), partitioner=[EthosUPartitioner(specification)]
        ).to_executorch()
        given = to_edge_transform_and_lower(
            exported_program(rounded, example),
            partitioner=[TOSAPartitioner(TosaCompileSpec(specification.tosa_spec))],
        )
    graphs = [
        part.processed_bytes
        for name, part in given.exported_program().graph_module.named_children()
        if name.startswith("lowered_module")
    ]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} parts go to the Ethos-U: only a network that goes whole is served")
    with open(job["target"], "wb") as file:
        file.write(lowered.buffer)
    with open(job["target"][: -len("pte")] + "tosa", "wb") as file:
        file.write(graphs[0])
    return {}
