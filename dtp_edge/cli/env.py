"""dtp-edge env: an environment of its own for a runtime, with pinned versions."""

from __future__ import annotations

import click

from dtp_edge.cli.console import say, table


@click.command(
    short_help="Make an environment for a runtime, with pinned versions.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("name", required=False)
@click.option("--index", metavar="URL", help="A further package index, of CPU builds of torch, say.")
@click.option("--again", is_flag=True, help="Make it anew.")
@click.option(
    "--timeout", type=click.FloatRange(1), default=3600.0, show_default=True, help="Seconds each step."
)
def env(name: str | None, index: str | None, again: bool, timeout: float) -> None:
    """Make an environment that has the runtime NAME and its exporter; without NAME, list what there is.

    \b
    dtp-edge env                 which there are, what each holds, and where
    dtp-edge env executorch      then --format pte and check --runtime executorch find it

    It lies in the cache folder (or where DTP_EDGE_ENVIRONMENTS says) and is found from there. Another Python
    is named by DTP_EDGE_PYTHON_NAME. Exit code 75 where it cannot be made; then nothing is left of it.
    """
    from dtp_edge.runtimes.environment import make_environment

    if name is None:
        _list()
        return
    made = make_environment(
        name, index=index, timeout_s=timeout, again=again, say=lambda text: click.echo(text, err=True)
    )
    took = f", made in {made.seconds:.0f} s" if made.seconds else ", there already"
    say(f"{name}:", f"{made.bytes / 1e6:.0f} MB in {made.python.parents[1]}{took}")


def _list() -> None:
    from dtp_edge.runtimes.environment import environment_folder, folder_bytes, is_made, makeable

    rows = []
    for name, runtime in makeable().items():
        folder = environment_folder(name)
        cost = f"{folder_bytes(folder) / 1e6:.0f} MB" if is_made(name) else "not made"
        rows.append([name, cost, ", ".join((*runtime.pins, *runtime.bare_pins))])
    click.echo(table(["runtime", "here", "what it installs"], rows))
