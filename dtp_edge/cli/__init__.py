"""The commands. Each loads what it needs when it is called, so that --help answers at once."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from dtp_edge import __version__
from dtp_edge.cli.console import show_error, warnings_as_lines
from dtp_edge.errors import DtpEdgeError, InputError, nearest
from dtp_edge.files import DISK_FAULTS, unwritable

_COMMANDS = {
    "prune": "dtp_edge.cli.prune:prune",
    "devices": "dtp_edge.cli.devices:devices",
    "profile": "dtp_edge.cli.profile:profile",
    "check": "dtp_edge.cli.check:check",
    "env": "dtp_edge.cli.env:env",
    "report": "dtp_edge.cli.report:report",
    "completion": "dtp_edge.cli.completion:completion",
}


def _load(command: str) -> click.Command:
    module, name = _COMMANDS[command].split(":")
    return getattr(importlib.import_module(module), name)


class LazyGroup(click.Group):
    """A group whose commands are imported when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return _load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            close = nearest(args[0], _COMMANDS, 1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise InputError(
                f"there is no command {args[0]!r}", hint=f"{hint}`{ctx.command_path} --help` lists them."
            )
        return super().resolve_command(ctx, args)


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
    try:
        with warnings_as_lines():
            command.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _told(_of_click(error, name))
    except DtpEdgeError as error:
        return _told(error)
    except (KeyboardInterrupt, click.Abort):
        with suppress(OSError):
            click.echo("\nstopped", err=True)
        return 130
    except SystemExit:  # click's, where the reader, such as `head`, has seen enough
        _stdout_to_nowhere()
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        return _told(unwritable(Path(error.filename or "standard output"), error))
    return 0


def _told(error: DtpEdgeError) -> int:
    """Print an error and return its exit code, which counts where nobody listens, too."""
    with suppress(OSError):
        show_error(error)
    return error.exit_code


def _finish(code: int) -> NoReturn:
    """Leave with `code`; what was said must have arrived, or that is an error of its own."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _stdout_to_nowhere()
    except OSError as error:
        _stdout_to_nowhere()  # or Python tries once more and prints a traceback
        code = _told(unwritable(Path("standard output"), error))
    with suppress(OSError):
        sys.stderr.flush()
    sys.exit(code)


def _stdout_to_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare() -> None:
    """Make a scheduler's stop resumable, and give a process that was started without them its streams."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would be what libraries print into
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would end the tidying up of the first
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _of_click(error: click.ClickException, name: str) -> InputError:
    """Say what click found wrong in the words of all other errors."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    program = context.command_path if context else name
    if isinstance(error, click.NoSuchOption):
        close = nearest(error.option_name, error.possibilities or [])[:2]
        near = f"Did you mean {' or '.join(close)}? " if close else ""
        return InputError(
            f"there is no option {error.option_name}", hint=f"{near}`{program} --help` lists them."
        )
    what = error.format_message().rstrip(".").replace("valid integer range", "whole number")
    return InputError(what, hint=f"`{program} --help` says how to write it.")


def main(arguments: Sequence[str] | None = None) -> None:
    _prepare()
    _finish(run(cli, arguments, "dtp-edge"))


def prune_main(arguments: Sequence[str] | None = None) -> None:
    _prepare()
    command = _load("prune")
    _finish(run(command, arguments, "prune-for-device"))
