"""dtp-edge completion: what to add to the shell's start file, and what options can be completed to."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

_LINES = {
    "bash": 'eval "$(_{var}_COMPLETE=bash_source {prog})"',
    "zsh": 'eval "$(_{var}_COMPLETE=zsh_source {prog})"',
    "fish": "_{var}_COMPLETE=fish_source {prog} | source",
}


@click.command(
    short_help="Print what switches on completion in a shell.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("shell", type=click.Choice(sorted(_LINES)))
def completion(shell: str) -> None:
    """Print the lines that switch on completion in SHELL.

    \b
    dtp-edge completion bash >> ~/.bashrc
    """
    for program in ("dtp-edge", "prune-for-device"):
        click.echo(_LINES[shell].format(var=program.replace("-", "_").upper(), prog=program))


def files(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete a file."""
    return [CompletionItem(begun, type="file")]


def folders(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete a folder."""
    return [CompletionItem(begun, type="dir")]


def device_names(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete the name of a profile, after the last comma where there are several, or a profile's file."""
    from dtp_edge.profiles import list_profiles

    before, comma, last = begun.rpartition(",")
    found = [name for name in ("host", *list_profiles()) if name.startswith(last)]
    return [CompletionItem(before + comma + name) for name in found] or files(context, option, begun)
