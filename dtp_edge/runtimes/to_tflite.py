"""Convert a pruned network to .tflite: a script for the interpreter that has litert-torch.

Called as `python to_tflite.py FOLDER`. FOLDER holds `job.json` (package: the folder of dtp_edge; pruned:
the folder that save_pruned wrote; target; shape; channels_last; int8) and, where int8, `calibration.npy`
`[samples, ...]`, for which ai-edge-quantizer is needed too.
"""

from __future__ import annotations

import json
import os
import sys


def main(folder: str) -> None:
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    sys.path.append(job["package"])  # dtp_edge need not be installed beside the converter
    import litert_torch
    import numpy as np
    import torch

    from dtp_edge.archive.folder import load_pruned

    module = load_pruned(job["pruned"]).eval()
    example = torch.zeros(job["shape"])
    if job["channels_last"]:
        module = litert_torch.to_channel_last_io(module, args=[0])
        example = example.permute(0, 2, 3, 1).contiguous()
    draft = os.path.join(folder, "fp32.tflite")
    litert_torch.convert(module, (example,)).export(draft)
    if job["int8"]:
        samples = np.load(os.path.join(folder, "calibration.npy"), allow_pickle=False)
        if job["channels_last"]:
            samples = samples.transpose(0, 2, 3, 1)
        quantised = os.path.join(folder, "int8.tflite")
        quantise(draft, quantised, np.ascontiguousarray(samples))
        draft = quantised
    os.replace(draft, job["target"])


def quantise(source: str, target: str, samples) -> None:
    """Static int8 weights and activations, ranges from the samples."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    signatures = Interpreter(model_path=source).get_signature_list()
    ((name, signature),) = signatures.items()
    (entry,) = signature["inputs"]
    worker = quantizer.Quantizer(source)
    worker.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = worker.calibrate({name: [{entry: samples[i : i + 1]} for i in range(len(samples))]})
    worker.quantize(ranges).export_model(target)


if __name__ == "__main__":
    sys.path.pop(0)  # this script's own folder: its files are no packages
    main(sys.argv[1])
