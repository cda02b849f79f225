"""prune-for-device: the main job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from dtp_edge.cli.console import Bar, print_json
from dtp_edge.errors import InputError

EPILOG = """\b
Examples:
  prune-for-device --demo
  prune-for-device resnet20 --weights resnet20.safetensors --data cifar10:DIR \\
      --device rpi4-ncnn-fp32-1t --latency 50% --epochs 20 --out runs/r20
  prune-for-device timm:mobilenetv3_small_100 --weights w.safetensors \\
      --device stm32h747-cubeai-int8 --ram 512KiB --flash 1MiB --plan
  prune-for-device net.py:build --device a.json,b.json --latency 25ms --plan

MODEL is torchvision:NAME, timm:NAME, a name from the built-in zoo, FILE.py:CALLABLE
or FILE.onnx. Budgets are absolute (25ms, 256KiB, 1MiB, 300e6) or relative to the
dense network (60%); all of them hold. Exit codes: 0 done, 2 bad input, 3 the budget
cannot be reached, 4 a check failed, 130 stopped (resume with --resume)."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", required=False)
@click.option("--device", metavar="NAME", help="Profile name, JSON file, or host; a,b,c with --plan.")
@click.option("--latency", metavar="X", help="Latency budget: 25ms or 60%.")
@click.option("--ram", metavar="X", help="RAM budget: 256KiB or 60%.")
@click.option("--flash", metavar="X", help="Flash budget: 1MiB or 60%.")
@click.option("--macs", metavar="X", help="MACs budget: 300e6 or 50%.")
@click.option("--params", metavar="X", help="Parameter budget: 1e6 or 50%.")
@click.option("--weights", metavar="FILE", help="Checkpoint: safetensors, or a torch file without code.")
@click.option("--data", metavar="SPEC", help="digits, cifar10:DIR, imagefolder:DIR, file.py:callable …")
@click.option("--epochs", type=click.IntRange(0), help="Epochs for masks and fine-tuning together.")
@click.option("--input-shape", metavar="C,H,W", help="Shape of one input, where MODEL does not say.")
@click.option("--exclude", metavar="MODULE", multiple=True, help="Leave this module whole (repeatable).")
@click.option("--int8", is_flag=True, help="Write model.int8.onnx as well, calibrated on --data.")
@click.option("--dynamic-batch", is_flag=True, help="Export with a free batch size.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", metavar="DIR", help="Folder for the results  [default: runs/MODEL-DEVICE]")
@click.option("--tensorboard", is_flag=True, help="Write the curves to DIR/tensorboard while training.")
@click.option("--resume", is_flag=True, help="Go on from DIR/checkpoint.")
@click.option("--force", is_flag=True, help="Replace a finished run in DIR.")
@click.option("--plan", is_flag=True, help="Only say what can be reached, before any training.")
@click.option("--demo", is_flag=True, help="Real digits, a small network, this machine, half its latency.")
@click.option("--json", "as_json", is_flag=True, help="Print the result (or the plan) as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Widths of every group, reasons of every frozen part.")
def prune(model: str | None, **options: Any) -> None:
    """Prune MODEL to a budget on a named device and prove the result."""
    from dtp_edge.cli.run_prune import execute, plan_table

    request = _request(model, options)
    if options["plan"]:
        plan_table(request, as_json=options["as_json"])
        return
    bar = Bar(quiet=options["quiet"] or options["as_json"])
    try:
        result = execute(request, bar)
    finally:
        bar.close()
    if options["as_json"]:
        print_json(result.report)
    elif not options["quiet"]:
        from dtp_edge.cli.summary_text import show_result

        show_result(result, verbose=options["verbose"])


def _request(model: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Check what can be checked before anything heavy is imported, and fill in the demo's answers."""
    request = {"model": model, **options, "command": _command_line()}
    if options["demo"]:
        if model is not None:
            raise InputError("--demo brings its own network", hint="Leave MODEL out, or leave --demo out.")
        request |= {"model": "demonet", "data": options["data"] or "digits"}
        request |= {"device": options["device"] or "host", "out": options["out"] or "runs/demo"}
        request["force"] = True
        if not any(options[name] for name in ("latency", "ram", "flash", "macs", "params")):
            request["latency"] = "50%"
    if request["model"] is None:
        raise InputError("name a MODEL", hint="Or start with `prune-for-device --demo`; see --help.")
    if request["device"] is None:
        raise InputError("name a --device", hint="`dtp-edge devices` lists them; host is this machine.")
    if not any(request[name] for name in ("latency", "ram", "flash", "macs", "params")):
        raise InputError("name a budget", hint="At least one of --latency --ram --flash --macs --params.")
    if "," in request["device"] and not request["plan"]:
        raise InputError(
            "several devices can be planned, one is pruned for",
            where="--device",
            hint="Add --plan, or name one.",
        )
    if request["out"] is None:
        name = Path(str(request["model"]).split(":")[-1]).stem
        request["out"] = f"runs/{name}-{Path(request['device']).stem}"
    return request


def _command_line() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
