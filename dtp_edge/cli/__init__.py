"""The commands. Each loads what it needs when it is called, so that --help answers at once."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence

import click

from dtp_edge import __version__
from dtp_edge.cli.console import show_error
from dtp_edge.errors import DtpEdgeError

_COMMANDS = {
    "prune": "dtp_edge.cli.prune:prune",
    "devices": "dtp_edge.cli.devices:devices",
    "profile": "dtp_edge.cli.profile:profile",
    "check": "dtp_edge.cli.check:check",
    "report": "dtp_edge.cli.report:report",
    "completion": "dtp_edge.cli.completion:completion",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(module), name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dtp-edge")
def cli() -> None:
    """Prune a trained network to a budget on a named edge device, and prove the result.

    \b
    dtp-edge devices                              what can be named as a device
    dtp-edge prune resnet20 --device rpi4-ncnn-fp32-1t --latency 60% --plan
    dtp-edge profile measure                      make a profile of this machine
    """


def run(command: click.Command, arguments: Sequence[str] | None, name: str) -> int:
    """Run a command and return its exit code: 0, 2 (input), 3 (budget), 4 (check failed), 130 (stopped)."""
    # torch's own deprecations, raised while it copies what it exported; nothing a user could act on
    warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg|torch")
    try:
        command.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except DtpEdgeError as error:
        show_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nstopped. A run with --data resumes with the same command and --resume.", err=True)
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(cli, arguments, "dtp-edge"))


def prune_main(arguments: Sequence[str] | None = None) -> None:
    command = LazyGroup().get_command(click.Context(cli), "prune")
    assert command is not None
    sys.exit(run(command, arguments, "prune-for-device"))
