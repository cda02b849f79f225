"""dtp-edge profile: make a device profile, from this machine, from a board, or from latencies you have."""

from __future__ import annotations

import datetime
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dtp_edge.cli.completion import device_names, files
from dtp_edge.cli.progress import Bar
from dtp_edge.errors import InputError
from dtp_edge.files import write_text

if TYPE_CHECKING:
    from dtp_edge.profiles import Profile


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def profile() -> None:
    """Make or check a device profile.

    \b
    dtp-edge profile measure --out mine.json        this machine, in ten minutes
    dtp-edge profile kit kit.zip                    take this to the board, run it
    dtp-edge profile import results.json --name b1  and bring its results back
    dtp-edge profile fit own.csv --like rpi4-tflite-fp32 --out mine.json
    dtp-edge profile measure --on ssh://pi@board --out board.json
    dtp-edge profile check host
    """


@profile.command(short_help="Measure this machine with ONNX Runtime.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--quick", is_flag=True, help="Under a minute, with a larger error.")
@click.option("--out", metavar="FILE", help="Also write the profile here.")
@click.option(
    "--on", metavar="PLACE", help="Measure that board: ssh://USER@HOST[:PORT][/PYTHON], adb:SERIAL."
)
@click.option("--probes", type=click.IntRange(20, 2000), help="Networks to measure on a board.")
@click.option("-q", "--quiet", is_flag=True)
def measure(
    threads: int, quick: bool, out: str | None, on: str | None, probes: int | None, quiet: bool
) -> None:
    """Measure this machine with ONNX Runtime; --device host uses the result from then on.

    With --on another machine is measured: it needs Python 3.8 with numpy and onnxruntime, nothing else.
    """
    from dtp_edge.measure import host_profile, measure_board, measure_host
    from dtp_edge.profiles import save_profile

    if out is not None:
        above = next(p for p in Path(out).absolute().parents if p.exists())
        if Path(out).is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            hint = "Name a file in a folder that you may write to."
            raise InputError("cannot be written", where=out, hint=hint)
    bar = Bar(quiet=quiet)

    def show(done: int, total: int, text: str) -> None:
        bar("measure", done, total)

    if on is not None:
        from dtp_edge.remote import remote_of

        if out is None:
            raise InputError("a board's profile needs a file", where="--on", hint="Add --out board.json.")
        made = measure_board(
            remote_of(on),
            threads,
            quick=quick,
            probes=probes,
            progress=lambda done, total: bar("measure", done, total),
        )
    elif quick:
        made = measure_host(threads, quick=True, progress=show)
    else:
        made = host_profile(threads, quick=False, progress=show)
    bar.close()
    click.echo(f"{made.name}: {made.error.text()}")
    if out is not None:
        click.echo(f"wrote {save_profile(made.document, out)}")


@profile.command(short_help="Fit a profile to latencies that you have.")
@click.argument("table", metavar="[CSV]", required=False, shell_complete=files)
@click.option(
    "--like",
    metavar="NAME",
    shell_complete=device_names,
    help="Profile whose kernels and priors to start from.",
)
@click.option("--layers", metavar="CSV", help="Layer table of the networks, where they cannot be built here.")
@click.option("--recipe", metavar="NAME", help="Make a shipped profile again from its data.")
@click.option("--data", metavar="DIR", help="Folder of the recipe's measurements.")
@click.option("--date", metavar="DATE", help="Date that the profile carries (default: today).")
@click.option("--out", metavar="FILE", required=True, help="Profile to write.")
def fit(
    table: str | None,
    like: str | None,
    layers: str | None,
    recipe: str | None,
    data: str | None,
    date: str | None,
    out: str,
) -> None:
    """Fit a profile to latencies: a CSV of your own (network,latency_ms[,family]), or a shipped recipe.

    Networks in the CSV are named as for prune-for-device: zoo names, torchvision:NAME, timm:NAME,
    file.py:callable or file.onnx.
    """
    from dtp_edge.profiles import save_profile

    day = _day(date)
    if recipe is not None:
        from dtp_edge.fitting.recipes import build

        if data is None:
            raise InputError("a recipe needs its measurements", where="--data", hint="Name their folder.")
        document = build(recipe, Path(data), day)
    elif table is not None and like is not None:
        document = _fit_own(Path(table), like, layers, name=Path(out).stem, date=day)
    else:
        raise InputError(
            "nothing to fit", hint="Give a CSV and --like PROFILE, or --recipe NAME and --data DIR."
        )
    error = document["error"]
    median = error.get("median_relative")
    click.echo(f"held-out error: {'unknown' if median is None else f'{median:.1%} (median)'}; {error['how']}")
    click.echo(f"wrote {save_profile(document, out)}")


def _day(date: str | None) -> str:
    if date is None:
        return datetime.date.today().isoformat()
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise InputError(f"{date!r} is not a date", where="--date", hint="Write it as 2026-11-22.") from error


def _fit_own(table: Path, like: str, layers: str | None, *, name: str, date: str) -> dict[str, Any]:
    from dtp_edge.fitting.own_latencies import fit_measured, from_graph, latency_line, read_measured
    from dtp_edge.fitting.rows import read_csv
    from dtp_edge.graph import trace_network
    from dtp_edge.measure import load_profile
    from dtp_edge.zoo import resolve_model

    base = load_profile(like)
    if layers is not None:
        measured = read_measured(table, Path(layers), base)
    else:
        measured = []
        for number, line in enumerate(read_csv(table), start=2):
            network, latency_ms, family = latency_line(line, f"{table}: line {number}")
            module, inputs, _ = resolve_model(network)
            graph = trace_network(module, inputs).layers
            measured.append(from_graph(network, family, graph, latency_ms, base))
    document, _ = fit_measured(base, measured, name=name, changes={}, date=date, source=str(table))
    return document


@profile.command(short_help="Predicted against measured on this machine.")
@click.argument("name", metavar="PROFILE", shell_complete=device_names)
@click.argument("models", nargs=-1, metavar="[MODEL …]")
@click.option("--picture", metavar="FILE.svg", help="Draw predicted against measured.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="About how long to time.")
@click.option("--on", metavar="PLACE", help="Measure on that board: ssh://USER@HOST[:PORT], adb:SERIAL.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(
    name: str, models: tuple[str, ...], picture: str | None, seconds: float, on: str | None, as_json: bool
) -> None:
    """Predicted against measured on this machine, for networks that you name (zoo networks if none)."""
    import tempfile

    from dtp_edge.cli.console import print_json
    from dtp_edge.cost import NetworkCost
    from dtp_edge.graph import trace_network
    from dtp_edge.measure import check_on, check_profile, load_profile
    from dtp_edge.onnx import export_onnx
    from dtp_edge.remote import remote_of
    from dtp_edge.zoo import resolve_model

    board = None if on is None else remote_of(on)
    loaded, bar = load_profile(name), Bar(quiet=as_json)
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for i, spec in enumerate(models or ("resnet8", "dscnn", "resnet20", "mobilenetv2", "vgg19")):
            bar.stage(f"building {spec}")
            module, inputs, _ = resolve_model(spec)
            cost = NetworkCost(trace_network(module, inputs).layers, loaded)
            predicted = cost.evaluate(cost.dense_sizes())
            path = export_onnx(module, inputs, Path(folder) / f"{i}.onnx")
            jobs.append((spec, path, predicted["latency_ms"]))
        bar.stage(f"timing {len(jobs)} networks in turns, about {seconds:.0f} s")
        if board is not None:
            result = check_on(board, jobs, loaded, seconds=seconds)
        else:
            result = check_profile(
                jobs,
                loaded.name,
                loaded.threads,
                seconds=seconds,
                reference_ms=loaded.provenance.reference_ms,
            )
    if as_json:
        print_json([asdict(row) for row in result.rows])
    else:
        click.echo(result.table())
        click.echo(result.summary())
    if picture is not None:
        write_text(Path(picture), result.picture())
        click.echo(f"wrote {picture}")


@profile.command(short_help="Write a zip that measures a board.")
@click.argument("out", metavar="ZIP")
@click.option("-q", "--quiet", is_flag=True)
def kit(out: str, quiet: bool) -> None:
    """Write a zip that measures a board with nothing but Python, numpy and onnxruntime on it."""
    from dtp_edge.measure import write_kit

    bar = Bar(quiet=quiet)
    path = write_kit(out, progress=lambda done, total, text: bar("kit", done, total))
    bar.close()
    click.echo(f"wrote {path}: unpack it on the board and run `python measure.py`")


@profile.command("import", short_help="Make a profile from what a profiler or the kit wrote.")
@click.argument("printouts", metavar="FILE …", nargs=-1, required=True, shell_complete=files)
@click.option("--name", required=True, help="Name of the new profile.")
@click.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    shell_complete=files,
    help="Network of each file, in order.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the profiled run.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8", "w8a8"]), help="Of the profiled run.")
@click.option("--chip", metavar="TEXT", default="unknown", help="What it ran on.")
@click.option("--clock-mhz", type=click.FloatRange(min=1e-3), help="For counts of cycles.")
@click.option("--runtime-version", "version", metavar="V", default="unknown", help="Of what ran it.")
@click.option("--out", metavar="FILE", help="Where to write it (default: NAME.json).")
@click.option("-v", "--verbose", is_flag=True, help="List every row that matches no layer.")
def import_command(printouts: tuple[str, ...], name: str, models: tuple[str, ...], **options: Any) -> None:
    """Make a profile from the kit's results.json, or from what a profiler printed (docs/profilers.md).

    \b
    dtp-edge profile import results.json --name board
    dtp-edge profile import a.json --model a.onnx b.json --model b.onnx --name b
    """
    from dtp_edge.cli.import_text import show_import
    from dtp_edge.measure import import_results
    from dtp_edge.measure.printout import is_kit, open_content
    from dtp_edge.profiles import save_profile

    paths = [Path(text) for text in printouts]
    if len(paths) == 1 and not models and is_kit(open_content(paths[0])):
        made = import_results(paths[0], name)
    else:
        made = _import_printouts(paths, name, models, options, show_import)
    click.echo(f"{made.name}: {made.error.text()}")
    click.echo(f"wrote {save_profile(made.document, options['out'] or f'{name}.json')}")


def _import_printouts(
    paths: list[Path], name: str, models: tuple[str, ...], options: dict[str, Any], show: Any
) -> Profile:
    from dtp_edge.graph import trace_network
    from dtp_edge.measure.import_printouts import Setting, import_printouts, read_printouts
    from dtp_edge.zoo import resolve_model

    found = read_printouts(paths)  # a file that is none is refused before any network is built
    if len(models) not in (1, len(found)):
        raise InputError(
            f"{len(found)} profiles and {len(models)} networks",
            where="--model",
            hint="Name the network of each profile with --model, in order; one stands for all.",
        )
    layers = {}
    for model in models:
        if model not in layers:
            module, inputs, _ = resolve_model(model)
            layers[model] = trace_network(module, inputs).layers
    each = models if len(models) == len(found) else models * len(found)
    keys = ("threads", "chip", "clock_mhz", "version")
    setting = Setting(name, options["precision"], **{key: options[key] for key in keys})
    made, joined = import_printouts(found, [(model, layers[model]) for model in each], setting)
    show(joined, verbose=options["verbose"])
    return made
