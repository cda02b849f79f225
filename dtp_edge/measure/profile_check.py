"""`profile check`: predicted against measured, network by network, as a table and a picture.

The picture is drawn here: measuring knows nothing of reports, which lie above it.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from dtp_edge.measure.machine import Reference
from dtp_edge.measure.node_times import quiet_mean
from dtp_edge.measure.timing import (
    bind,
    make_session,
    random_feed,
    relative_spread,
    time_interleaved,
)


@dataclass(frozen=True)
class CheckedNetwork:
    """`latency_ms` as measured on an otherwise idle machine (the mean between the 10th and the 40th
    percentile of the samples); `median_ms` of all samples; `spread` their interquartile range over it."""

    name: str
    predicted_ms: float
    latency_ms: float
    median_ms: float
    spread: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_ms / self.latency_ms


@dataclass(frozen=True)
class CheckResult:
    """`quiet_share` is the share of reference samples that nothing disturbed; `reference_ms` their time;
    `slowdown` that time over the one when the profile was measured (measured latencies are divided by it).
    """

    profile: str
    rows: tuple[CheckedNetwork, ...]
    reference_ms: float
    quiet_share: float
    runtime: str
    slowdown: float = 1.0

    @property
    def error(self) -> np.ndarray:
        """|predicted / measured - 1| of every network."""
        return np.array([abs(row.ratio - 1.0) for row in self.rows])

    @property
    def median_error(self) -> float:
        return float(np.median(self.error))

    def within(self, limit: float = 0.10) -> float:
        """Return the share of networks predicted within `limit`."""
        return float((self.error <= limit).mean())

    def table(self) -> str:
        """Return the rows as text, largest error first, with a summary line."""
        width = max(len(row.name) for row in self.rows)
        head = f"{'network':{width}}  predicted ms  measured ms  ratio  spread"
        lines = [
            f"{row.name:{width}}  {row.predicted_ms:12.3f}  {row.latency_ms:11.3f}  "
            f"{row.ratio:5.3f}  {row.spread:5.1%}"
            for row in sorted(self.rows, key=lambda r: -abs(r.ratio - 1.0))
        ]
        return "\n".join([head, *lines, self.summary()])

    def summary(self) -> str:
        bias = float(np.median([row.ratio for row in self.rows])) - 1.0
        now = (
            f"; the machine runs at {self.slowdown:.2f} of the profile's times, taken into account"
            if abs(self.slowdown - 1.0) > 0.005
            else ""
        )
        return (
            f"{len(self.rows)} networks: median error {self.median_error:.1%}, within 10 %: "
            f"{self.within():.0%}, worst {self.error.max():.1%}, bias {bias:+.1%}; "
            f"{self.quiet_share:.0%} of the reference samples were undisturbed{now}"
        )

    def csv(self) -> str:
        """Return the rows as CSV."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["name", "predicted_ms", "latency_ms", "median_ms", "spread"])
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return stream.getvalue()

    def json(self) -> str:
        """Return everything as JSON."""
        return json.dumps({**asdict(self), "median_error": self.median_error, "within_10": self.within()})

    def picture(self) -> str:
        """Return predicted against measured as a self-contained SVG (logarithmic axes, ±10 % band)."""
        return scatter_svg(self.rows, f"{self.profile}: predicted against measured", self.summary())


def check_profile(
    models: Sequence[tuple[str, str | Path | bytes, float]],
    profile_name: str,
    threads: int = 1,
    *,
    seconds: float = 30.0,
    repeats: int | None = None,
    reference_ms: float | None = None,
) -> CheckResult:
    """Time networks against each other, interleaved with a reference kernel, and compare.

    **Arguments:**

    - `models`: (name, ONNX path or bytes, predicted latency_ms) of each network.
    - `seconds`: about how long the timing takes; or `repeats` rounds.
    - `reference_ms`: the reference kernel's time when the profile was measured (`Provenance.reference_ms`);
      with it, a machine that is slower now than it was then is told from a profile that is wrong.

    **Raises:** `InputError` for a model that ONNX Runtime refuses, or no model.
    """
    watch = Reference(threads)
    sessions = [make_session(model, threads) for _, model, _ in models]
    runners = [bind(s, random_feed(s)) for s in sessions]
    samples = time_interleaved([*runners, watch.sample], repeats=repeats, seconds=seconds)
    now = watch.quiet_ms()
    slowdown = now / reference_ms if reference_ms else 1.0
    rows = [
        CheckedNetwork(name, predicted, float(quiet_mean(us)), float(np.median(us)), relative_spread(us))
        for (name, _, predicted), us in zip(models, samples[:-1] / slowdown, strict=True)
    ]
    return CheckResult(profile_name, tuple(rows), now, watch.quiet_share(), ort.__version__, slowdown)


def scatter_svg(rows: Sequence[CheckedNetwork], title: str, caption: str) -> str:
    """Return an SVG of predicted (y) over measured (x) milliseconds with the ±10 % band."""
    size, margin = 460, 56
    values = np.array([[r.latency_ms, r.predicted_ms] for r in rows])
    low, high = np.log10(values.min() * 0.8), np.log10(values.max() * 1.25)

    def at(ms: float) -> float:
        return margin + (np.log10(ms) - low) / (high - low) * (size - 2 * margin)

    def point(x: float, y: float) -> str:
        return f"{at(x):.1f},{size - at(y):.1f}"

    start, end = 10**low, 10**high
    band = [
        point(start, start * 1.1),
        point(end / 1.1, end),
        point(end, end / 1.1),
        point(start * 1.1, start),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size + 34}" font-family="sans-serif" '
        'font-size="11" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{size}" height="{size + 34}" fill="#fff"/>',
        f'<text x="{size / 2}" y="20" text-anchor="middle" font-size="13">{html.escape(title)}</text>',
        f'<polygon points="{" ".join(band)}" fill="#4c78a8" fill-opacity="0.15"/>',
        f'<polyline points="{point(start, start)} {point(end, end)}" stroke="#4c78a8" fill="none"/>',
    ]
    for tick in (t * 10.0**e for e in range(int(low) - 1, int(high) + 2) for t in (1, 2, 5)):
        if start <= tick <= end:
            x = at(tick)
            parts.append(
                f'<text x="{x:.1f}" y="{size - margin + 16}" text-anchor="middle">{tick:g}</text>'
                f'<text x="{margin - 6}" y="{size - x + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
    for row in rows:
        x, y = point(row.latency_ms, row.predicted_ms).split(",")
        label = html.escape(f"{row.name}: {row.predicted_ms:.3g} predicted, {row.latency_ms:.3g} measured")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.2" fill="#e45756"><title>{label}</title></circle>')
        if abs(row.ratio - 1.0) > 0.1:  # outside the band: say which it is
            left = float(x) > size / 2
            parts.append(
                f'<text x="{float(x) + (-7 if left else 7):.1f}" y="{float(y) + 4:.1f}" font-size="9" '
                f'text-anchor="{"end" if left else "start"}">{html.escape(row.name[:40])}</text>'
            )
    middle = size / 2
    parts += [
        f'<text x="{middle}" y="{size - 16}" text-anchor="middle">measured ms</text>',
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">predicted ms</text>',
    ]
    for number, line in enumerate(caption.split("; ")):
        text = f'<text x="{middle}" y="{size + 2 + 12 * number}" text-anchor="middle" font-size="9">'
        parts.append(f"{text}{html.escape(line)}</text>")
    parts.append("</svg>")
    return "\n".join(parts)
