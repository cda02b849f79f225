"""Device profiles: one JSON file says how long every kernel takes on one device, and how right that is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.files import write_text
from dtp_edge.profiles.held_out import HeldOutError
from dtp_edge.profiles.power import Power
from dtp_edge.profiles.schema import read_profile_json, validate_document
from dtp_edge.profiles.shipped import list_profiles, nearest_device, profiles_dir

HOST = "host"


@dataclass(frozen=True)
class Device:
    """`kind` is what the figures are of: "cpu", "gpu" or "npu"; `vendor` makes the chip."""

    name: str
    chip: str
    cores: str
    clock_mhz: float
    kind: str = "cpu"
    vendor: str = ""


@dataclass(frozen=True)
class Runtime:
    name: str
    version: str


@dataclass(frozen=True)
class Limits:
    """What the board has; None where the board has no such limit of its own (storage on a card)."""

    ram_bytes: float | None = None
    flash_bytes: float | None = None


@dataclass(frozen=True)
class Fusion:
    """What the runtime folds into the kernel before it.

    `norm`: batch norm into convolution or linear. `activations`: op names that become part of the
    producing kernel. `add`: a residual add (and the activation after it) becomes part of a convolution.
    `elementwise_activations`: an activation becomes part of the add or mul before it.
    `norm_is_convolution`: a batch norm that folds into nothing runs as a depthwise 1x1 convolution, and
    takes along what one does. `activation_ns_per_value`: what a fused activation adds to its kernel for
    every output value (nanoseconds; an activation that is not listed adds nothing, as ReLU does).
    """

    norm: bool = True
    activations: tuple[str, ...] = ()
    add: bool = False
    elementwise_activations: bool = False
    norm_is_convolution: bool = False
    activation_ns_per_value: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """`in_place`: an elementwise kernel writes over an input that nobody reads later."""

    in_place: bool = True
    arena_bytes: float = 0.0
    flash_overhead_bytes: float = 4096.0
    notes: str = ""


@dataclass(frozen=True)
class Layout:
    """A runtime that runs convolutions on channels in blocks, and copies where layouts meet."""

    kind: str
    block: int
    align: int


@dataclass(frozen=True)
class RateModel:
    """The "additive" and the "analytical" form.

    additive: ms = 1e3 (work/macs_per_second + activation bytes/bytes_per_second
    + weight bytes/weight_bytes_per_second) + overhead_ms; analytical: the largest of the three terms
    instead of their sum. `work` is MACs with channels rounded up to `channel_step`, times
    (1 + a/in_channels)(1 + b/out_channels)(1 + c/pixels) where `saturation` gives a, b, c.
    `macs_per_second` is None for kernels that only move memory. Where `spill_bytes` is given, activation
    bytes beyond it (they leave the cache) cost 1/`spill_bytes_per_second` more each.
    """

    form: str
    macs_per_second: float | None
    bytes_per_second: float
    weight_bytes_per_second: float
    overhead_ms: float
    source: str
    channel_step: tuple[int, int] = (1, 1)
    saturation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    op_factor: Mapping[str, float] = field(default_factory=dict)
    spill_bytes: float | None = None
    spill_bytes_per_second: float = 1e12


@dataclass(frozen=True)
class TableModel:
    """Measured rows over a small additive base; `dtp_edge.cost.table` interpolates them."""

    document: Mapping[str, Any]
    source: str
    channel_step: tuple[int, int] = (1, 1)
    op_factor: Mapping[str, float] = field(default_factory=dict)
    form: str = "table"


KernelModel = RateModel | TableModel


@dataclass(frozen=True)
class WeightCache:
    """A network's weight bytes beyond `bytes` (of a cache) cost 1/`bytes_per_second` more each."""

    bytes: float
    bytes_per_second: float


@dataclass(frozen=True)
class Provenance:
    """`reference_ms`: time of the reference kernel (see `machine.Reference`) during the measurement.
    `facts`: which facts about the device are sourced, and which are recalled and unsourced."""

    source: str
    licence: str
    date: str
    how: str
    url: str = ""
    spread: str = ""
    recipe: str = ""
    reference_ms: float | None = None
    facts: str = ""


@dataclass(frozen=True)
class Profile:
    """`input_ns_per_value`: what the host does to every value of the inputs, where its time is in the
    figures.
    """

    name: str
    device: Device
    runtime: Runtime
    precision: str
    threads: int
    limits: Limits
    memory_bytes_per_second: float
    kernels: Mapping[str, KernelModel]
    fusion: Fusion
    graph_overhead_ms: float
    provenance: Provenance
    error: HeldOutError
    memory: Memory = field(default_factory=Memory)
    layout: Layout | None = None
    weight_cache: WeightCache | None = None
    input_ns_per_value: float = 0.0
    power: Power | None = None
    description: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def error_text(self) -> str:
        """The held-out error in under 70 characters, such as "±8.1 % held out (n=26), fitted"."""
        if self.error.median_relative is None:
            return f"{self.error.status}, error unknown"
        return f"±{self.error.median_relative * 100:.1f} % held out (n={self.error.n}), {self.error.status}"


def read_profile(name_or_path: str | os.PathLike[str]) -> Profile:
    """Return a shipped profile by its name, or that of a JSON file.

    Raises `InputError` for an unknown name (with the nearest names), an unreadable or oversized file,
    or a bad field (with its JSON path).
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    if path.suffix == ".json" or os.sep in text or path.is_file():
        return parse_profile(read_profile_json(path), where=str(path))
    shipped = profiles_dir() / f"{text}.json"
    names = list_profiles()
    if text not in names:
        close = nearest(text, [*names, HOST]) or nearest_device(text, names)
        raise InputError(
            f"no device profile is called {text!r}",
            hint=(f"Nearest: {', '.join(close)}. " if close else "")
            + "`dtp-edge devices` lists all of them.",
        )
    return parse_profile(read_profile_json(shipped))


def parse_profile(document: Any, *, where: str | None = None) -> Profile:
    """Return the profile that a JSON document describes. Raises `InputError` with the bad field's path.

    `where` says in errors what was read; the profile's name if None.
    """
    name = document.get("name", "profile") if where is None and isinstance(document, dict) else "profile"
    validate_document(document, where=where or str(name)[:100])
    return Profile(
        name=document["name"],
        description=document.get("description", ""),
        device=Device(**document["device"]),
        runtime=Runtime(**document["runtime"]),
        precision=document["precision"],
        threads=document["threads"],
        limits=Limits(**document["limits"]),
        memory_bytes_per_second=float(document["memory_bytes_per_second"]),
        kernels={family: _kernel(k) for family, k in document["kernels"].items()},
        fusion=Fusion(**{**document["fusion"], "activations": tuple(document["fusion"]["activations"])}),
        memory=Memory(**document.get("memory", {})),
        layout=Layout(**document["layout"]) if "layout" in document else None,
        weight_cache=WeightCache(**document["weight_cache"]) if "weight_cache" in document else None,
        power=Power(**document["power"]) if "power" in document else None,
        graph_overhead_ms=float(document["graph_overhead_ms"]),
        input_ns_per_value=float(document.get("input_ns_per_value", 0.0)),
        provenance=Provenance(**document["provenance"]),
        error=HeldOutError(**document["error"]),
        document=dict(document),
    )


def save_profile(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Validate a profile document and write it as JSON in one move; return the path."""
    validate_document(document, where=os.fspath(path))
    return write_text(Path(path), json.dumps(document, indent=1, allow_nan=False) + "\n")


def _kernel(document: Mapping[str, Any]) -> KernelModel:
    step = document.get("channel_step", {})
    steps = (step.get("in_channels", 1), step.get("out_channels", 1))
    factor = dict(document.get("op_factor", {}))
    if document["form"] == "table":
        return TableModel(dict(document), document["source"], steps, factor)
    bend = document.get("saturation", {})
    rate = document.get("macs_per_second")
    if document["form"] == "analytical":
        rate = document["macs_per_cycle"] * document["clock_hz"]
    return RateModel(
        form=document["form"],
        macs_per_second=rate,
        bytes_per_second=document["bytes_per_second"],
        weight_bytes_per_second=document.get("weight_bytes_per_second", document["bytes_per_second"]),
        overhead_ms=document["overhead_ms"],
        source=document["source"],
        channel_step=steps,
        saturation=(bend.get("in_channels", 0.0), bend.get("out_channels", 0.0), bend.get("pixels", 0.0)),
        op_factor=factor,
        spill_bytes=document.get("spill_bytes"),
        spill_bytes_per_second=document.get("spill_bytes_per_second", 1e12),
    )
