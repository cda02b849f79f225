"""dtp-edge check: does this ONNX file load, run and agree in the runtimes that boards use?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dtp_edge.cli.completion import files
from dtp_edge.cli.console import print_json, quantity, style, table, wrapped
from dtp_edge.cli.placed import kernels_of, placed_lines, require_share
from dtp_edge.errors import CheckError, InputError

if TYPE_CHECKING:
    from dtp_edge.runtimes import RuntimeRow

COLOURS = {"ok": "green", "missing": "bright_black"}


@click.command(
    short_help="Run an ONNX file in every runtime that is installed.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("file", metavar="FILE.onnx", shell_complete=files)
@click.option("--runtime", "runtimes", metavar="A,B", help="Only these runtimes  [default: all known]")
@click.option(
    "--python", "pythons", metavar="NAME=PATH", multiple=True, help="The Python that has a runtime."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds each."
)
@click.option(
    "--memory", "memory_mib", type=click.IntRange(64), default=4096, show_default=True, help="MiB each."
)
@click.option("--repeats", type=click.IntRange(0), default=0, help="Also time this many runs.")
@click.option("--on", metavar="PLACE", help="On that board: ssh://USER@HOST, adb:SERIAL.")
@click.option(
    "--device",
    metavar="NAME",
    help="Profile that shares of time are of.",
)
@click.option("--require-delegated", metavar="X", help="Least share of each unit, as in 95%.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(
    file: str,
    runtimes: str | None,
    pythons: tuple[str, ...],
    timeout_s: float,
    memory_mib: int,
    repeats: int,
    on: str | None,
    device: str | None,
    require_delegated: str | None,
    as_json: bool,
) -> None:
    """Load, run and compare FILE in every runtime that is installed, each in a process of its own.

    \b
    dtp-edge check runs/r20/model.onnx
    dtp-edge check model.onnx --runtime onnxruntime,openvino,ncnn --repeats 50

    A runtime in another environment is found by --python openvino=ov/bin/python or through
    DTP_EDGE_PYTHON_OPENVINO; `dtp-edge env NAME` makes one. Each says who computes what. LiteRT and
    ExecuTorch read the .tflite and .pte beside FILE. Exit code 4 if an installed runtime fails or disagrees.
    """
    from dtp_edge.remote import remote_of
    from dtp_edge.runtimes import check_runtimes

    names = [name.strip() for name in runtimes.split(",") if name.strip()] if runtimes else None
    rows = check_runtimes(
        file,
        names,
        timeout_s=timeout_s,
        memory_bytes=memory_mib << 20,
        repeats=repeats,
        interpreters=_interpreters(pythons),
        on=None if on is None else remote_of(on),
        kernels=kernels_of(Path(file), device),
    )
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _show(rows)
    wrong = [row.runtime for row in rows if row.status not in ("ok", "missing")]
    if wrong:
        raise CheckError(f"{', '.join(wrong)} failed or disagrees", where=file, hint="The table says how.")
    if require_delegated is not None:
        silent = require_share(rows, require_delegated, names or ())
        if silent and not as_json:
            click.echo(
                wrapped("not held against the share:", f"{', '.join(silent)}, which say nothing of it")
            )


def _interpreters(pythons: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in pythons]
    if bad := [name for name, _, path in pairs if not path]:
        raise InputError(f"{bad[0]!r} names no Python", where="--python", hint="Write NAME=PATH.")
    return {name: path for name, _, path in pairs}


def _show(rows: list[RuntimeRow]) -> None:
    ran = [row for row in rows if row.status != "missing"]
    if ran:
        headers = ["runtime", "version", "status", "difference", "latency", "delegated", "memory plan"]
        click.echo(table(headers, [_cells(row) for row in ran]))
    for row in ran:
        if row.detail:
            click.echo(wrapped(f"{row.runtime}:", row.detail))
        for label, text in placed_lines(row):
            click.echo(wrapped(label, text))
    for row in rows:
        if row.status == "missing":
            label = style(f"{row.runtime} is not here:", fg=COLOURS["missing"])
            click.echo(wrapped(label, row.install or row.detail))


def _cells(row: RuntimeRow) -> list[str]:
    return [
        row.runtime,
        row.version or "-",
        style(row.status, fg=COLOURS.get(row.status, "red")),
        "-" if row.relative_diff is None else f"{row.relative_diff:.1e}",
        "-" if row.latency_ms is None else f"{row.latency_ms:.3g} ms",
        "-" if row.placement is None else f"{100 * row.placement.delegated:.1f} %",
        "-" if row.memory_bytes is None else quantity("peak_ram_bytes", row.memory_bytes),
    ]
