"""CPU profiles from ncnn's own benchmark table: 26 networks on 102 boards, with exact layer lists.

Form: additive with separate rates for 1x1, 3x3 stride 1 (Winograd), other convolutions, grouped,
depthwise and linear; separate activation bandwidths where their kernels differ; weights apart; and a
spill term for activations beyond 2 MiB (fp32). It was chosen among about 25 variants of form and prior by
the mean over all 186 CPU runs of the table, not on the shipped boards.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.fitting.losses import Huber
from dtp_edge.fitting.rate_documents import kernel_documents
from dtp_edge.fitting.rates import (
    Board,
    HeldOut,
    KernelRates,
    Population,
    Rate,
    RateSpec,
    Sample,
    fit_population,
    leave_family_out,
)
from dtp_edge.fitting.recipes.kind import Kind, Parts, all_recipes
from dtp_edge.fitting.rows import KernelRow, LayerRow, read_csv, read_layer_table

NCNN_SPEC = RateSpec(
    rates=(
        Rate("conv1x1", "compute", 1.0, 0.18),
        Rate("linear", "compute", 1.0, 0.18),
        Rate("winograd", "compute", 0.45, 0.24),
        Rate("conv", "compute", 1.1, 0.18),
        Rate("grouped", "compute", 2.0, 0.24),
        Rate("depthwise", "compute", 1.5, 0.3),
        Rate("io_conv1x1", "memory", 0.7, 0.24),
        Rate("io_depthwise", "memory", 0.7, 0.24),
        Rate("io_winograd", "memory", 2.0, 0.3),
        Rate("io_conv", "memory", 1.0, 0.24),
        Rate("io_elementwise", "memory", 0.7, 0.24),
        Rate("io_layout", "memory", 1.0, 0.3),
        Rate("io_activation", "memory", 2.0, 0.36),
        Rate("io_lrn", "memory", 5.0, 0.36),
        Rate("weights_linear", "memory", 0.5, 0.18),
        Rate("weights", "memory", 0.5, 0.24),
        Rate("weights_winograd", "memory", 2.0, 0.24),
        Rate("spill", "memory", 0.7, 0.3),
        Rate("product_overhead", "overhead", 1.0, 0.42),
        Rate("other_overhead", "overhead", 0.5, 0.42),
    ),
    kernels={
        "conv1x1": KernelRates("conv1x1", "io_conv1x1", "weights", "product_overhead", "spill"),
        "conv3x3": KernelRates("winograd", "io_winograd", "weights_winograd", "product_overhead", "spill"),
        "conv": KernelRates("conv", "io_conv", "weights", "product_overhead", "spill"),
        "depthwise": KernelRates("depthwise", "io_depthwise", "weights", "product_overhead", "spill"),
        "grouped": KernelRates("grouped", "io_conv", "weights", "product_overhead", "spill"),
        "conv_transpose": KernelRates("grouped", "io_conv", "weights", "product_overhead"),
        "linear": KernelRates("linear", "io_conv", "weights_linear", "product_overhead"),
        "matmul": KernelRates("linear", "io_conv", "weights_linear", "product_overhead"),
        "recurrent": KernelRates("linear", "io_conv", "weights_linear", "product_overhead"),
        "elementwise": KernelRates("", "io_elementwise", "", "other_overhead"),
        "norm": KernelRates("", "io_elementwise", "", "other_overhead"),
        "pool": KernelRates("", "io_elementwise", "", "other_overhead"),
        "layout": KernelRates("", "io_layout", "", "other_overhead"),
        "resize": KernelRates("", "io_layout", "", "other_overhead"),
        "embedding": KernelRates("", "io_layout", "", "other_overhead"),
        "softmax": KernelRates("", "io_activation", "", "other_overhead"),
        "norm.local_response_norm": KernelRates("", "io_lrn", "", "other_overhead"),
        **{
            f"elementwise.{op}": KernelRates("", "io_activation", "", "other_overhead")
            for op in ("silu", "hardswish", "sigmoid", "hardsigmoid", "gelu", "mish", "tanh")
        },
    },
)
FUSION = {
    "norm": True,
    "activations": "relu relu6 hardtanh clamp leaky_relu sigmoid hardswish mish".split(),  # noqa: SIM905
    "add": False,
}
_FAMILIES = {
    "squeezenet": ("squeezenet", "squeezenet_ssd"),
    "mobilenet": ("mobilenet", "mobilenet_ssd", "mobilenet_yolo"),
    "mobilenet_v2": ("mobilenet_v2", "mobilenetv2_yolov3"),
    "efficientnet": ("efficientnet_b0", "efficientnetv2_b0"),
    "resnet": ("resnet18", "resnet50"),
    "yolo-fastest": ("yolo-fastest-1.1", "yolo-fastestv2", "FastestDet"),
    "shufflenet_v2": ("shufflenet_v2", "nanodet_m"),
}
_FAMILY_OF = {net: family for family, nets in _FAMILIES.items() for net in nets}
# Two sigmas of the noise: several networks of a run are off by a half. The mean over all runs is 11.4 %
# with it, 11.7 % with 0.25.
_LOSS = Huber(0.15)
_FREE_TYPES = {"Flatten", "Reshape", "Noop", "MemoryData", "PriorBox", "Split"}
_ELEMENTWISE_TYPES = {"BinaryOp", "Eltwise", "ReLU", "BatchNorm", "Softmax", "LayerNorm"}
_ACTIVATION_TYPES = {"Swish", "HardSwish", "Sigmoid", "GELU", "HardSigmoid"}
_FP16_CORES = re.compile(
    r"A55|A76|A77|A78|X1|X2|X3|X4|A510|A71\d|A72\d|Orin|Apple|M1|M2|8 Gen|865|888|855|9300|Dimensity|990|980"
    r"|Kryo 4|Carmel|N1|N2|V1|Kunpeng|SM8|T7[0-9]{2}",
    re.I,
)
_FP32_CORES = re.compile(r"A73|Kirin 970|RK3399|A72 1|Ryzen|Intel|Core i|A57")
_OTHER_MACHINES = ("RISC", "Loongson", "MIPS", "C906", "C910")


def kernel_key(layer: LayerRow) -> str | None:
    """Return the kernel key of an ncnn layer, None for one that moves no data."""
    if layer.kind == "conv1x1":
        return "conv1x1"
    if layer.kind == "convkxk":
        return "conv3x3" if layer.kernel == (3, 3) and layer.stride == (1, 1) else "conv"
    fixed = {
        "dwconv": "depthwise",
        "groupconv": "grouped",
        "InnerProduct": "linear",
        "LRN": "norm.local_response_norm",
    }
    if layer.kind in fixed:
        return fixed[layer.kind]
    if layer.type.startswith("Deconvolution"):
        return "conv_transpose"
    if layer.type in _FREE_TYPES:
        return None
    if layer.type in _ACTIVATION_TYPES:
        return "elementwise.silu"
    if layer.type in _ELEMENTWISE_TYPES:
        return "elementwise"
    return "pool" if layer.type in ("Pooling", "Reduction") else "layout"


def channel_steps(pack: int) -> dict[str, dict[str, int]]:
    """Return ncnn's channel packing as steps: 4 in fp32 NEON, 8 in fp16 and AVX."""
    both = {"in_channels": pack, "out_channels": pack}
    out = {"out_channels": pack}
    return {"conv1x1": both, "conv3x3": both, "conv": out, "depthwise": out}


def rows_of(layers: list[LayerRow], pack: int) -> tuple[KernelRow, ...]:
    """Return a network's kernels, channels rounded up to ncnn's packing as the profile will do."""
    rows = []
    for layer in layers:
        key = kernel_key(layer)
        if key is None:
            continue
        step = channel_steps(pack).get(key, {})
        ratio = 1.0
        for side, count in (("in_channels", layer.cin), ("out_channels", layer.cout)):
            if count and side in step:
                ratio *= -(-count // step[side]) * step[side] / count
        is_product = key in ("conv1x1", "conv3x3", "conv", "depthwise", "grouped", "conv_transpose", "linear")
        rows.append(
            KernelRow(
                key=key,
                macs=layer.macs * ratio if is_product else 0.0,
                activation_elements=layer.in_elements + layer.out_elements,
                weight_elements=layer.params if is_product else 0.0,
            )
        )
    return tuple(rows)


def setting(device: str, run: int) -> str | None:
    """Return the group of boards that share a prior: fp16 or fp32 cores, one thread or more."""
    if any(word in device for word in _OTHER_MACHINES):
        return None
    if run in (65, 66):  # RK3588's A55 cores alone
        return "fp16"
    return "fp16" if _FP16_CORES.search(device) and not _FP32_CORES.search(device) else "fp32"


def read_boards(data: Path, bounds: dict[int, dict[str, float]]) -> dict[int, Board]:
    """Return every CPU run of the table with 20 or more fp32/fp16 networks, by run number."""
    nets = read_layer_table(data / "ncnn" / "ncnn_layers.csv")
    runs: dict[int, dict[str, Any]] = {}
    for line in read_csv(data / "ncnn" / "ncnn_benchmark.csv"):
        name = line["model"]
        if line["gpu_device"] != "-1" or name.endswith("_int8") or name == "vision_transformer":
            continue  # the ViT's layer list has no shapes
        run = runs.setdefault(int(line["run"]), {"line": line, "nets": {}})
        run["nets"][name] = float(line["min_ms"])
    boards: dict[int, Board] = {}
    rows = {pack: {name: rows_of(layers, pack) for name, layers in nets.items()} for pack in (4, 8)}
    for number, run in runs.items():
        device, threads = run["line"]["device"], run["line"]["num_threads"]
        group = setting(device, number)
        if group is None or len(run["nets"]) < 20:
            continue
        pack = 4 if group == "fp32" else 8
        samples = tuple(
            Sample(name, str(_FAMILY_OF.get(name, name)), rows[pack][name], ms)
            for name, ms in run["nets"].items()
        )
        key = f"{group}-{'1t' if threads == '1' else 'mt'}"
        boards[number] = Board(device, key, samples, bounds.get(number, {}))
    return boards


class NcnnFit:
    """All boards fitted together once; `document` gives one profile."""

    def __init__(self, data: Path, targets: dict[str, dict[str, Any]]) -> None:
        bounds = {t["run"]: _bounds(t["peak_macs_per_second"]) for t in targets.values()}
        self.boards = read_boards(data, bounds)
        self.runs = list(self.boards)
        boards = list(self.boards.values())
        self.full: Population = fit_population(NCNN_SPEC, boards, loss=_LOSS)
        self.held: list[HeldOut] = leave_family_out(NCNN_SPEC, boards, loss=_LOSS)

    def kernels(self, run: int, precision: str) -> dict[str, Any]:
        pack, element_bytes = (8, 2) if precision == "fp16" else (4, 4)
        theta = self.full.theta[self.runs.index(run)]
        return kernel_documents(NCNN_SPEC, theta, element_bytes, channel_steps(pack), "fitted")

    def held_out(self, run: int) -> HeldOut:
        return self.held[self.runs.index(run)]


def _bounds(peak: float) -> dict[str, float]:
    """Bound compute rates by the cores' peak; Winograd F(6,3) does 5.06 direct MACs with one."""
    bounds = dict.fromkeys(("conv1x1", "linear", "conv", "grouped", "depthwise"), peak)
    return {**bounds, "winograd": 5.06 * peak}


@lru_cache(maxsize=1)
def _fit(data: Path, frozen: tuple[tuple[str, int, float], ...]) -> NcnnFit:
    targets = {name: {"run": run, "peak_macs_per_second": peak} for name, run, peak in frozen}
    return NcnnFit(data, targets)


def fit_all(data: Path, targets: dict[str, dict[str, Any]]) -> NcnnFit:
    """Return the joint fit (cached: every ncnn profile comes from the same one)."""
    frozen = tuple((n, int(t["run"]), float(t["peak_macs_per_second"])) for n, t in sorted(targets.items()))
    return _fit(data.resolve(), frozen)


def summary(fit: NcnnFit) -> float:
    """Return the mean over all runs of the median held-out error."""
    return float(np.mean([h.median() for h in fit.held]))


def _build(recipe: dict[str, Any], data: Path) -> Parts:
    fit = fit_all(data, {n: r for n, r in all_recipes().items() if r["kind"] == "ncnn"})
    how = "additive rates, log error, prior from all CPU runs of the table, bounded by the cores' peak"
    return Parts(fit.kernels(recipe["run"], recipe["precision"]), fit.held_out(recipe["run"]), how)


_HOW = (
    "leave one network family out on all 186 CPU runs of the table at once, so that the prior learned "
    "from the other boards has not seen the family either, and every fit begins from nothing; float networks"
)
_MEMORY = (
    "channels off the packing (4 in fp32, 8 in fp16) are costed as the next multiple; ncnn may be slower"
)
KINDS = (Kind("ncnn", _build, _HOW, FUSION, {"notes": _MEMORY}),)
