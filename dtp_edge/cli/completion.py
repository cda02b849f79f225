"""dtp-edge completion: what to add to the shell's start file."""

from __future__ import annotations

import click

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
