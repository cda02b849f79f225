"""prune-for-device: the main job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from dtp_edge.cli.completion import device_names, files, folders
from dtp_edge.cli.format_options import format_options
from dtp_edge.cli.one_or_many import execute, plan, show
from dtp_edge.cli.progress import Bar
from dtp_edge.cli.prune_help import EPILOG, GROUPS, SHORT
from dtp_edge.cli.resuming import refuse_resume, stopped
from dtp_edge.cli.sweep_options import is_many, sweep_options
from dtp_edge.errors import InputError, Interrupted
from dtp_edge.run.outputs import first_process


class OneScreen(click.Command):
    """A command whose --help fits a screen, and whose --help-all explains every option by groups."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if ctx.meta.get("all"):
            super().format_help(ctx, formatter)
        else:
            formatter.write(SHORT.format(program=ctx.command_path) + "\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = {p.name: p.get_help_record(ctx) for p in self.get_params(ctx)}
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := options.get(name))])


def _help_all(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta["all"] = True
        click.echo(ctx.get_help())
        ctx.exit()


@click.command(
    cls=OneScreen,
    short_help="Prune a network to a budget on a device.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("model", required=False, shell_complete=files)
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=device_names,
    help="Profile name, JSON file, or host; a,b,c are many; all with --plan.",
)
@click.option("--latency", metavar="X", help="Latency budget: 25ms or 60%; 70%,50% are many.")
@click.option("--ram", metavar="X", help="RAM budget: 256KiB or 60%.")
@click.option("--flash", metavar="X", help="Flash budget: 1MiB or 60%.")
@click.option("--macs", metavar="X", help="MACs budget: 300e6 or 50%.")
@click.option(
    "--energy", metavar="X", help="Energy budget an inference, where the profile knows power: 5mJ or 60%."
)
@click.option("--params", metavar="X", help="Parameter budget: 1e6 or 50%.")
@click.option("--keep", metavar="X", multiple=True, help="Channels: 50%, each=50% or GROUP=40% (repeatable).")
@click.option(
    "--weights",
    metavar="FILE",
    shell_complete=files,
    help="Checkpoint: safetensors, or a torch file without code.",
)
@click.option(
    "--calibrate", metavar="SPEC", help="Inputs without labels: prune by calibration alone; see below."
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=512,
    metavar="N",
    help="Inputs that --calibrate reads [default: 512]",
)
@click.option("--data", metavar="SPEC", help="What to train on and test with; see below.")
@click.option(
    "--objective",
    metavar="NAME",
    help="What to train for: a NAME below, FILE.py:NAME [default: the data's]",
)
@click.option(
    "--epochs", type=click.IntRange(0), metavar="N", help="Epochs for masks and fine-tuning together."
)
@click.option("--set", metavar="KEY=VALUE", multiple=True, help="Change the recipe; see below (repeatable).")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    metavar="N",
    help="Processes that read pictures [default: 2]",
)
@click.option(
    "--input-shape",
    metavar="C,H,W",
    help="Shape of one input, where MODEL does not say; NAME=C,H,W;NAME=… of an ONNX file.",
)
@click.option("--exclude", metavar="MODULE", multiple=True, help="Leave this module whole (repeatable).")
@click.option(
    "--part",
    metavar="NAME",
    help="Prune this submodule alone, of a network that cannot be traced as a whole.",
)
@click.option(
    "--depth/--no-depth",
    default=None,
    help="Whether whole residual branches may go [default: with --data or --calibrate].",
)
@click.option(
    "--int8", is_flag=True, help="Write model.int8.onnx as well, calibrated on --data or --calibrate."
)
@click.option("--dynamic-batch", is_flag=True, help="Export with a free batch size.")
@click.option(
    "--opset",
    type=int,
    default=18,
    metavar="N",
    help="Opset of the ONNX file, 12 to 20  [default: 18]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    metavar="N",
    help="Seed of weights, order and masks  [default: 0]",
)
@click.option(
    "--out",
    metavar="DIR",
    shell_complete=folders,
    help="Folder for the results  [default: runs/MODEL-DEVICE]",
)
@click.option(
    "--on", metavar="PLACE", help="Time dense and pruned there: ssh://USER@HOST[:PORT] or adb:SERIAL."
)
@format_options
@sweep_options
@click.option("--tensorboard", is_flag=True, help="Write the curves to DIR/tensorboard while training.")
@click.option("--resume", is_flag=True, help="Go on from DIR/checkpoint.")
@click.option("--force", is_flag=True, help="Replace a finished run in DIR.")
@click.option("--plan", is_flag=True, help="Only say what can be reached, before any training.")
@click.option("--demo", is_flag=True, help="Real digits, a small network, this machine, half its latency.")
@click.option("--json", "as_json", is_flag=True, help="Print the result (or the plan) as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Widths of every group, reasons of every frozen part.")
@click.option(
    "--help-all",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_help_all,
    help="Explain every option.",
)
def prune(model: str | None, **options: Any) -> None:
    """Prune MODEL to a budget on a named device and prove the result."""
    request = _request(model, options)
    if options["plan"]:
        plan(request)
        return
    speaks = first_process()  # of the several processes of one run
    bar = Bar(quiet=options["quiet"] or options["as_json"] or not speaks)
    try:
        result = execute(request, bar)
    except (Interrupted, KeyboardInterrupt) as stop:
        raise stopped(stop, request) from stop
    finally:
        bar.close()
    if not speaks:
        return
    show(result, request)


def _request(model: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Check what can be checked before anything heavy is imported, and fill in the demo's answers."""
    request = {"model": model, **options, "command": _command_line()}
    if options["demo"]:
        if model is not None:
            raise InputError("--demo brings its own network", hint="Leave MODEL out, or leave --demo out.")
        request |= {"model": "demonet", "data": options["data"] or "digits"}
        request |= {"device": options["device"] or "host", "out": options["out"] or "runs/demo"}
        request["force"] = True
        if not any(options[name] for name in GROUPS["Budget"]):
            request["latency"] = "50%"
    if request["model"] is None:
        raise InputError("name a MODEL", hint="Or start with `prune-for-device --demo`; see --help.")
    request["many"] = is_many(request)
    if not (request["device"] or "").strip(", ") and not request["sweep"]:
        raise InputError("name a --device", hint="`dtp-edge devices` lists them; host is this machine.")
    request["budget"] = {name: request[name] for name in GROUPS["Budget"] if request[name]}
    if not request["budget"] and not request["sweep"]:
        raise InputError(
            "name a budget", hint="At least one of --latency --ram --flash --macs --params --energy --keep."
        )
    if request["epochs"] and request["data"] is None:
        raise InputError("--epochs needs --data", hint="Leave both out for a one-shot run.")
    if request["calibrate"] is not None and request["data"] is not None:
        raise InputError("--calibrate and --data exclude each other", hint="Give one of them: --data trains.")
    if request["objective"] and request["data"] is None:
        raise InputError("--objective needs --data", hint="It says what the network is trained for.")
    if request["set"] and request["data"] is None:
        raise InputError("--set needs --data", hint="It changes how the network is trained.")
    if request["tensorboard"] and request["data"] is None:
        raise InputError("--tensorboard needs --data", hint="It shows the curves of training.")
    if request["out"] is not None and not request["out"].strip():
        raise InputError("the folder has no name", where="--out", hint="Leave it out for runs/MODEL-DEVICE.")
    if request["out"] is None:
        name = Path(str(request["model"]).split(":")[-1]).stem
        which = "sweep" if request["many"] else Path(request["device"]).stem
        request["out"] = f"runs/{name}-{which}"
    if request["resume"] and not request["plan"]:
        refuse_resume(request)
    return request


def _command_line() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
