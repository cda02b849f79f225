"""What a source of networks says of one of them, and the errors that all sources share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError, nearest

__all__ = ["Source", "only_channels", "optional", "unknown"]


@dataclass(frozen=True)
class Source:
    """How to build the network (for an optional number of classes), and its usual input.

    `kind` is where it comes from, for the report. `example` are inputs that are no single image: arguments in
    order, or by keyword. `trained`: it comes with weights that mean something.
    """

    name: str
    kind: str
    build: Callable[[int | None], nn.Module]
    input_shape: tuple[int, ...]
    example: tuple[Any, ...] | Mapping[str, Any] | None = None
    trained: bool = False


def optional(module: str, package: str, extra: str) -> Any:
    """Import what only some users have.

    **Raises:** `InputError` that says how to install it.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a torchvision built for another torch fails with more than ImportError
        raise InputError(
            f"{package} cannot be imported ({type(error).__name__}: {error})",
            hint=f'Install a version that fits torch {torch.__version__}: pip install "dtp-edge[{extra}]".',
        ) from error


def unknown(source: str, name: str, known: Sequence[str]) -> InputError:
    """Say which names are near one that a source does not have."""
    near = nearest(name, known)
    listed = ", ".join(f"{source}:{n}" for n in near or list(known)[:6])
    more = "" if near else f", … ({len(known)} in all)"
    hint = f"Did you mean {listed}?" if near else f"There are {listed}{more}."
    return InputError(f"{source} has no network '{name}'", hint=hint)


def only_channels(wanted: int, channels: int | None, name: str, what: str) -> None:
    """Refuse data with another number of channels than these networks can be built for.

    **Raises:** `InputError`.
    """
    if channels not in (None, wanted):
        raise InputError(
            f"{what} read {wanted} channels, the data has {channels}",
            where=name,
            hint=f"Take a timm network, which can be built for other inputs, or data with {wanted} channels.",
        )
