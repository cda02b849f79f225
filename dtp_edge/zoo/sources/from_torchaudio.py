"""torchaudio:NAME, any network of `torchaudio.models` that is built without arguments; without weights.

Its input is one second of sound at 16 kHz, with a dimension for channels where the network wants one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from dtp_edge.errors import InputError, first_line
from dtp_edge.zoo.sources.network_source import Source, optional, unknown

EXTRA = "audio"
SAMPLES = 16_000


def find(name: str, _channels: int | None, shape: tuple[int, ...] | None) -> Source:
    """Return a network of torchaudio, with an input that it runs on."""
    models = optional("torchaudio.models", "torchaudio", EXTRA)
    known = {n: f for n in dir(models) if (f := _builder(getattr(models, n))) is not None}
    if name not in known:
        raise unknown("torchaudio", name, sorted(known))

    def build(_classes: int | None) -> nn.Module:
        return known[name]()

    return Source(name, "torchaudio", build, shape or _input_of(build(None), name))


def _builder(found: Any) -> Callable[[], nn.Module] | None:
    """Return what builds a network without being told anything; None where it is something else."""
    if not callable(found) or inspect.ismodule(found) or "models" not in getattr(found, "__module__", ""):
        return None
    if inspect.isclass(found) and not issubclass(found, nn.Module):
        return None
    needed = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
    named = [p for p in needed if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return None if named else cast("Callable[[], nn.Module]", found)


def _input_of(module: nn.Module, name: str) -> tuple[int, ...]:
    """Return a second of sound as the network takes it: bare, or with one channel."""
    said = ""
    for shape in ((SAMPLES,), (1, SAMPLES)):
        try:
            with torch.no_grad():
                module.eval()(torch.zeros(1, *shape))
        except Exception as error:  # a network of spectra, or one that asks for lengths
            said = first_line(error)
        else:
            return shape
    raise InputError(
        f"the network does not run on a second of sound ({said})",
        where=f"torchaudio:{name}",
        hint="Let FILE.py:NAME return (network, example_inputs).",
    )
