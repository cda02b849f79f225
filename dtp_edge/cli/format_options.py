"""The options of further formats, and what is known of them before a long run begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dtp_edge.cli.console import style, wrapped

NAMES = ("formats", "require_delegated", "ram_by", "rewrites", "int8_loss", "int8_per_tensor")


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(
        (
            click.option(
                "--format",
                "formats",
                metavar="A,B",
                default="onnx",
                help="Further formats, each proved in its runtime: pte,tflite,openvino,ncnn,ethosu,cortexm.",
            ),
            click.option(
                "--require-delegated",
                metavar="X",
                help="Fail unless each format's unit takes this share of the time: 95%.",
            ),
            click.option(
                "--ram-by",
                metavar="RUNTIME",
                help="Hold --ram against this runtime's own plan, too: executorch.",
            ),
            click.option(
                "--rewrites",
                metavar="A,B",
                default="default",
                help="Rewrites by which formats go whole: names, all, none  [default: what costs nothing]",
            ),
            click.option(
                "--int8-loss",
                metavar="X",
                default="1%",
                help="int8 that loses more is trained with its roundings  [default: 1%]",
            ),
            click.option(
                "--int8-per-tensor", is_flag=True, help="One scale a tensor of int8 weights, not a channel."
            ),
        )
    ):
        command = option(command)
    return command


def asked_formats(request: dict[str, Any]) -> Any:
    """Return what was asked of formats, None where nothing was; contradictions are refused.

    A runtime that is not there is told at once, not after hours of training.
    """
    from dtp_edge.errors import InputError
    from dtp_edge.run.further_formats import wanted_formats
    from dtp_edge.runtimes.environment import unready
    from dtp_edge.runtimes.formats.registry import FORMATS

    if request["ram_by"] is not None and not request["ram"]:
        raise InputError(
            "it needs a RAM budget", where="--ram-by", hint="Add --ram 256KiB, or leave --ram-by out."
        )
    found = wanted_formats(*(request[n] for n in ("formats", "require_delegated", "ram_by", "rewrites")))
    if not found.names:
        return None
    for text in filter(None, (unready(FORMATS[name].runtime) for name in found.names)):
        if not request["quiet"]:
            click.echo(wrapped(style("warning:", fg="yellow"), text), err=True)
    return found


def int8_options(request: dict[str, Any]) -> dict[str, Any]:
    """Return the options of int8 files; 1% is a point of accuracy."""
    from dtp_edge.errors import InputError
    from dtp_edge.metrics import fraction

    loss = fraction(text := request["int8_loss"])
    if not 0 <= loss < 1:
        raise InputError(f"{text!r} is no loss", where="--int8-loss", hint="Write 1%, or 0.01.")
    return {"int8": request["int8"], "int8_loss": loss, "int8_per_tensor": request["int8_per_tensor"]}
