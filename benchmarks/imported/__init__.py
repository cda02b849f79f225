"""Profiles imported from what runtimes' own profilers print here: do they predict other networks' times?

    python -m benchmarks.imported build --files DIR     # 44 networks, ONNX and stored (torchvision, timm)
    python -m benchmarks.formats build --files NETS     # pruned networks of the runtime matrix, judged
    python -m benchmarks.imported convert --files DIR --nets NETS                # LiteRT's files of both
    python -m benchmarks.imported counters --files DIR --runtime openvino|litert
    python -m benchmarks.imported time --files DIR --nets NETS --runtime openvino|litert
    python -m benchmarks.imported check --files DIR --nets NETS --runtime openvino|litert

`counters` runs a runtime's own profiler several times a network and keeps the file of the fastest run: on a
machine that does other work, what interrupts a run is no property of a layer. `time` calls the networks of
NETS in turns, without a profiler (the lower quartile of all calls, one thread). `check` imports the counters
by `dtp-edge profile import` and writes predicted and measured into results/imported.csv. No network of NETS
is among those whose counters are imported.
"""

from __future__ import annotations

import numpy as np

from benchmarks.experiments import EXPERIMENTS

TABLE = EXPERIMENTS["imported"]


def whole_page() -> str:
    """The page of the committed rows."""
    rows = TABLE.read()
    lines = ["# Imported profiles against measured networks", "", (__doc__ or "").split("\n\n")[0].strip()]
    for runtime in dict.fromkeys(r["runtime"] for r in rows):
        mine = [r for r in rows if r["runtime"] == runtime]
        off = [abs(float(r["ratio"]) - 1) for r in mine]
        lines += [
            "",
            f"## {runtime} {mine[0]['version']}",
            "",
            f"Off by {np.median(off):.1%} in the median of {len(off)}, at most {max(off):.1%}; from the "
            f'counters of {mine[0]["from"]} other networks. "Outside" is the share of the predicted time '
            "whose layers lie outside of what the profile was fitted to, as the command warns.",
            "",
            "| network | predicted ms | measured ms | ratio | outside |",
            "|---|---|---|---|---|",
        ]
        for r in mine:
            cells = (r["network"], r["predicted_ms"], r["measured_ms"], r["ratio"], r.get("outside") or "")
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Made by: " + "; ".join(dict.fromkeys(r["origin"] for r in mine))]
    return "\n".join([*lines, *([] if rows else ["", "No rows yet."]), ""])
