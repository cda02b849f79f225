"""Progress with the time left: a bar on a terminal, now and then a line in a pipe or a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from dtp_edge.cli.console import style
from dtp_edge.metrics import HELD_OUT, Headline, digits, duration

EVERY_SECONDS = 30.0  # between two lines of one phase where there is no terminal


class Bar:
    """A progress bar for each phase of a run, shown once the phase has taken two seconds.

    Without a terminal a phase says every half minute how far it is and how long it will take, and one
    line when it is done.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.phase, self._bar = quiet, None, None
        self._began = self._said = 0.0
        self._start = 0  # a resumed phase does not begin at 0
        self.headline: Headline | None = None  # of what is trained for
        self._held: dict[str, Any] = {}  # the last headline on the hold-out (once an epoch), its step

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        if self.quiet:
            return
        if phase != self.phase:
            self.close()
            self._open(phase, done, total)
        info = dict(info or {})
        if "went_back_from" in info:
            self._went_back(phase, done, info)
        key = next((k for k in HELD_OUT if k in info), None)
        if key is not None:
            self._held = {key: info[key], "holdout_step": done}
        elif self._held:
            info |= self._held
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            self._bar.set_postfix_str(postfix(info, brief=True, headline=self.headline), refresh=False)
        elif done < total and time.monotonic() - self._said >= EVERY_SECONDS:
            self._line(phase, done, total, info)
        if done >= total:
            self._finish(phase, total, info)

    def stage(self, text: str) -> None:
        """Say what begins, of the parts that have no steps to count."""
        if not self.quiet:
            self.close()
            click.echo(style(f"{text} …", dim=True), err=True)

    def _open(self, phase: str, done: int, total: int) -> None:
        from tqdm import tqdm

        self.phase, self._start, self._held = phase, max(done - 1, 0), {}
        self._began = self._said = time.monotonic()
        if sys.stderr.isatty():
            shape = "{desc:<9} {percentage:3.0f}% {bar} {n_fmt}/{total_fmt}, {remaining} left{postfix}"
            self._bar = tqdm(
                total=total, initial=self._start, desc=phase, delay=2, leave=True, file=sys.stderr,
                bar_format=shape, dynamic_ncols=True,
            )  # fmt: skip

    def _went_back(self, phase: str, done: int, info: Mapping[str, Any]) -> None:
        where = f"at step {info['went_back_from']}; back to step {done - 1}"
        text = f"{phase}: training diverged {where}, half the learning rate"
        if self._bar is None:
            click.echo(text, err=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def _line(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        self._said = time.monotonic()
        rate = (self._said - self._began) / max(done - self._start, 1)
        left = duration(round(rate * (total - done)))
        numbers = postfix(info, headline=self.headline)
        click.echo(f"{phase}: {done} of {total} steps, {left} left  {numbers}".rstrip(), err=True)

    def _finish(self, phase: str, total: int, info: Mapping[str, Any]) -> None:
        if self._bar is None:
            # the clock starts at the first step that is reported: one step has no time
            steps = "1 step" if total == 1 else f"{total} steps"
            took = f" in {duration(time.monotonic() - self._began)}" if total - self._start > 1 else ""
            click.echo(f"{phase}: {steps}{took}  {postfix(info, headline=self.headline)}".rstrip(), err=True)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self.phase = None, None


def postfix(info: Mapping[str, Any], *, brief: bool = False, headline: Headline | None = None) -> str:
    """Return the few numbers of a step that tell whether it goes well; `brief` for a bar of 80 columns.

    An accuracy on the hold-out that is not this step's (`holdout_step`) is shown with its step.
    "cost" is a multiple of the budget, "soft" the softness, the sum of m(1-m): 0 when every mask is
    0 or 1. In brief, the loss is left out beside them.
    """
    loss, cost, soft = (_number(info, name) for name in ("loss", "budget_used", "softness"))
    held, accuracy = (_number(info, name) for name in (HELD_OUT[0], "accuracy"))
    other = _number(info, HELD_OUT[1])
    when = info.get("holdout_step")
    parts = []
    if loss is not None and not (brief and (cost is not None or soft is not None)):
        parts.append(f"loss {loss:.3g}")
    if cost is not None:
        parts.append(f"cost {cost:.2f}" + ("" if brief else " of the budget"))
    if soft is not None:
        parts.append(f"soft {soft:.3g}")
    if accuracy is not None and (held is None or (when is not None and not brief)):
        parts.append(f"{'acc' if brief else 'accuracy'} {100 * accuracy:.0f} %")
    if held is not None and brief:
        parts.append(f"held-out {100 * held:.1f} %" if when is None else f"held-out {100 * held:.1f}%@{when}")
    elif held is not None:
        parts.append(f"held-out accuracy {100 * held:.1f} %" + ("" if when is None else f" at step {when}"))
    if other is not None:
        text = digits(other) if headline is None else f"{headline.name} {headline.text(other)}"
        late = "" if when is None else f"@{when}" if brief else f" at step {when}"
        parts.append(f"held-out {text}{late}")
    return ", ".join(parts)


def _number(info: Mapping[str, Any], name: str) -> float | None:
    value = info.get(name)
    return value if isinstance(value, float) else None
