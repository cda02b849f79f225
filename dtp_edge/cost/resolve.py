"""Which model of a profile costs a kernel, and what is said where the profile has none of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.kernels import Kernel
from dtp_edge.errors import InputError, nearest
from dtp_edge.profiles.profile import KernelModel, Profile, RateModel

_NEAREST = {  # families that compute: no bandwidth stands for them
    "conv3x3": ("conv", "conv1x1"),
    "conv": ("conv3x3", "conv1x1"),
    "conv1x1": ("conv", "linear"),
    "depthwise": ("grouped", "conv", "conv1x1"),
    "grouped": ("conv", "conv1x1"),
    "conv_transpose": ("conv", "conv3x3", "conv1x1"),
    "linear": ("matmul", "conv1x1"),
    "matmul": ("linear", "conv1x1"),
    "recurrent": ("linear", "matmul"),
}


@dataclass
class Resolved:
    """The model of one kernel, and where its numbers come from."""

    model: KernelModel
    source: str
    key: str
    extrapolated: bool = False


def resolve(kernel: Kernel, profile: Profile, suffix: str = "") -> Resolved:
    """Return the most specific model of a kernel. Raises `InputError` where nothing can be said."""
    for family in (kernel.family, *_NEAREST.get(kernel.family, ())):
        for key in (f"{family}{suffix}.{kernel.op}", f"{family}.{kernel.op}", f"{family}{suffix}", family):
            model = profile.kernels.get(key)
            if model is not None:
                source = model.source
                twin = family != kernel.family
                if twin:
                    source = f"extrapolated: {kernel.family} costed as {key} ({source})"
                return Resolved(model, source, key, extrapolated=twin)
    if kernel.family in _NEAREST:
        known = sorted(profile.kernels)
        raise InputError(
            f"profile {profile.name} cannot cost {kernel.op} ({kernel.family}): it has no such kernel family",
            where=kernel.module or kernel.name,
            hint=f"It has {', '.join(known)}; nearest: {', '.join(nearest(kernel.family, known)) or 'none'}.",
        )
    return Resolved(_by_bandwidth(profile), _bandwidth_text(kernel, profile), "bytes/bandwidth", True)


def _by_bandwidth(profile: Profile) -> RateModel:
    overheads = [m.overhead_ms for m in profile.kernels.values() if isinstance(m, RateModel)]
    return RateModel(
        form="additive",
        macs_per_second=None,
        bytes_per_second=profile.memory_bytes_per_second,
        weight_bytes_per_second=profile.memory_bytes_per_second,
        overhead_ms=float(np.median(overheads)) if overheads else 0.0,
        source="extrapolated",
    )


def _bandwidth_text(kernel: Kernel, profile: Profile) -> str:
    what = f"op {kernel.op}" if kernel.family == "other" else f"family {kernel.family}"
    rate = profile.memory_bytes_per_second / 1e9
    return f"extrapolated: {what} is not in the profile; bytes / {rate:.3g} GB/s + median overhead"
