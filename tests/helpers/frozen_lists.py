"""What stays whole in many networks, as JSON: run as a script, to compare Python with and without -O."""

from __future__ import annotations

import json
import sys

import helpers.more_structures  # noqa: F401  (adds structures)
from dtp_edge.graph import trace_network
from helpers.graph_structures import STRUCTURES, build
from helpers.refused import REFUSED


def frozen_lists() -> dict[str, list[list[str]]]:
    found = {}
    for name in sorted(STRUCTURES)[::8]:
        model, x = build(name)
        found[name] = trace_network(model, x)
    for name, (module, x, _, _) in REFUSED.items():
        found[name] = trace_network(module.eval(), x)
    return {name: [[f.name, f.code, f.node, f.text] for f in n.frozen] for name, n in found.items()}


if __name__ == "__main__":
    print(json.dumps({"optimised": not __debug__, "frozen": frozen_lists()}))
    sys.exit(0)
