"""Write docs/formats/RUNTIME.md, one page a runtime of `--format`, all from one template.

    python tools/format_guides.py

What a page says of names, versions and files is what the registries say; `NOTES` has what was seen of each.
`tests/test_format_guides.py` holds the pages to this.
"""

# ruff: noqa: E501  # prose

from __future__ import annotations

from pathlib import Path

from dtp_edge.runtimes.formats.registry import FORMATS
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.runtimes.rewrites import rewrites_of

DOCS = Path(__file__).parents[1] / "docs" / "formats"

TEMPLATE = """\
# {title}

{about}. Written by `tools/format_guides.py`; the networks that were tried are in `benchmarks/results/formats.md`.

## Install

<!-- needs: {variable} -->
```console
dtp-edge env {runtime}
```

It makes an environment of its own (here {megabytes} MB) with {pins}{bare}, in the cache folder (or where
`DTP_EDGE_ENVIRONMENTS` says), and `--format` and `dtp-edge check` find it there. Where pip would take a PyTorch with
CUDA, `--index URL` names an index of CPU builds. Another Python that has these packages is named by `{variable}`.

## One command

<!-- prepare: models -->
<!-- needs: {variable} -->
```console
prune-for-device resnet8 --device rpi4-ncnn-fp32-1t --macs 50% --format {format} --out runs/{format}
```

The run leaves {files} beside `model.onnx`{int8}.

## What is checked

{checked}

The file is made in a folder of its own and moved beside the others only when its runtime agrees with the compact network
in torch: float32 within 1e-4 of the largest output (or four times torch's own rounding), int8 within twice the error of
our int8 ONNX file on held-out inputs. An exporter that hangs, dies, prints more than 64 MiB or is not there is a row with
its cause; every other file of the run stands, and the command ends with exit code 4.

## Placement

{placement}

`--require-delegated 95%` fails the run with the names of what stays behind; the report and `dtp-edge check` show the same
table, with what to change where a rewrite is known. {rewrites}

## Memory

{memory}

## Known faults

{faults}
"""

_OWN_KERNELS = (
    "A layer that it cannot load stops the making, so a file that is there is computed by it whole."
)

NOTES = {
    "executorch": {
        "title": "ExecuTorch (.pte)",
        "megabytes": "1590",
        "checked": "The network is exported by `torch.export` from the stored archive, lowered to XNNPACK, and run by "
        "ExecuTorch's own runtime. int8 is by its quantiser (pt2e): weights symmetric per channel, ranges from the run's data.",
        "placement": "Kernels that stay behind are instructions of the program's plan; what XNNPACK took is read from its own "
        "payload in the file, by the schema that the package ships.",
        "memory": "`memory plan` is what ExecuTorch's planner sets aside for activations with portable kernels: what a "
        "microcontroller without a delegate needs. With XNNPACK the file's own plan holds inputs and outputs only, and XNNPACK "
        "allots its workspace when it loads: that is in no plan. `--ram-by executorch` holds `--ram` against the plan.",
        "faults": "- An int8 program has no plan with portable kernels: there are none for its operators, and the report says so.\n"
        "- Loading takes seconds (torch and torchao are imported); that is the exporter's time, not the network's.\n"
        '- Cortex-M and Ethos-U back ends need `pip install "executorch[ethos-u]"` and are not made by `--format` yet; for '
        "Ethos-U take the int8 `.tflite` and Vela.",
    },
    "litert": {
        "title": "LiteRT (.tflite)",
        "megabytes": "2240",
        "checked": "The network is converted by litert-torch from the stored archive and run by the LiteRT interpreter. Inputs of "
        "four dimensions are `[1, height, width, channels]`. int8 is by ai-edge-quantizer, static weights and activations.",
        "placement": "The interpreter is asked after XNNPACK took its part: a tensor without memory lies inside the delegate.",
        "memory": "`memory plan` is the arena of the interpreter with reference kernels, which need no scratch, inputs included: "
        "the span of addresses that it gave. `--ram-by litert` holds `--ram` against it.",
        "faults": "- Strided convolutions with padding on both sides become a PAD and a convolution: the arena holds both, so it is "
        "larger than the prediction.\n- The optimised float kernels unfold inputs (im2col) and take several times the arena stated "
        "here where XNNPACK does not take the layer.",
    },
    "openvino": {
        "title": "OpenVINO (.xml, .bin)",
        "megabytes": "290",
        "checked": "The IR is made from `model.onnx` (int8: from `model.int8.onnx`, QDQ), and run by the CPU plug-in at f32.",
        "placement": "The compiled graph says which kernel runs each operator; one with a reference kernel counts as left behind.",
        "memory": "The plug-in does not say what it sets aside.",
        "faults": "- The plug-in's own default is bf16 where the processor has it: outputs then differ by some 1e-2.",
    },
    "ncnn": {
        "title": "ncnn (.param, .bin)",
        "megabytes": "220",
        "checked": "pnnx converts `model.onnx`; ncnn runs what it wrote, with fp16 off.",
        "placement": f"The layers are listed in the `.param` file. {_OWN_KERNELS}",
        "memory": "ncnn allots while it runs and states no plan.",
        "faults": "- fp32 only: pnnx has no layer for QDQ.\n- Tensors have four dimensions at most: no transformers with windows.",
    },
}


def page(runtime_name: str) -> str:
    """Return the guide of one runtime."""
    (one,) = [f for f in FORMATS.values() if f.runtime == runtime_name]
    runtime, notes = RUNTIMES[runtime_name], NOTES[runtime_name]
    rewrites = "; ".join(r.about for r in rewrites_of(one.name))
    int8 = one.files("model", "int8")[0]
    names = " and ".join(f"`{name}`" for name in one.files("model", "fp32"))
    return TEMPLATE.format(
        **notes,
        about=one.about,
        runtime=runtime_name,
        format=one.name,
        variable=f"DTP_EDGE_PYTHON_{runtime_name.upper()}",
        pins=", ".join(f"`{pin}`" for pin in runtime.pins),
        bare=f" and, without what it asks for, `{runtime.bare_pins[0]}`" if runtime.bare_pins else "",
        files=names,
        int8=f"; with `--int8` also `{int8}`" if "int8" in one.precisions else "",
        rewrites=f"On the way {rewrites}." if rewrites else "",
    )


def main() -> None:
    for name in NOTES:
        (DOCS / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
