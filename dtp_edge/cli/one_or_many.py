"""A request for one run or for a sweep of many: which part of the program carries it out, and shows it."""

from __future__ import annotations

from typing import Any

from dtp_edge.cli.console import print_json
from dtp_edge.cli.progress import Bar
from dtp_edge.errors import CheckError


def plan(request: dict[str, Any]) -> None:
    if request["many"]:
        from dtp_edge.cli.run_sweep import plan_sweep_table

        plan_sweep_table(request, as_json=request["as_json"])
    else:
        from dtp_edge.cli.run_prune import plan_table

        plan_table(request, as_json=request["as_json"])


def execute(request: dict[str, Any], bar: Bar) -> Any:
    if request["many"]:
        from dtp_edge.cli.run_sweep import execute_sweep

        return execute_sweep(request, bar)
    from dtp_edge.cli import run_prune

    return run_prune.execute(request, bar)


def show(result: Any, request: dict[str, Any]) -> None:
    if request["as_json"]:
        print_json(result.rows if request["many"] else result.report)
    elif request["many"] and not request["quiet"]:
        from dtp_edge.cli.run_sweep import show_sweep

        show_sweep(result.rows, result.out)
    elif not request["quiet"]:
        from dtp_edge.cli.summary_text import show_result

        show_result(result, verbose=request["verbose"])
    if request["many"]:
        from dtp_edge.cli.run_sweep import end_of

        end_of(result.rows)
    elif bad := [f"{row.format} {row.precision}" for row in result.formats if row.status != "ok"]:
        raise CheckError(
            f"not made: {', '.join(bad)}; every other file is there and checked",
            where=request["out"],
            hint="The report says why. `dtp-edge env NAME` makes an environment that has a runtime.",
        )
