"""What stays whole is a value: a code, a node and a text, the same however Python runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.frozen_lists import frozen_lists
from helpers.refused import REFUSED

from dtp_edge.graph import trace_network


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_use_without_a_rule_is_named_by_code_node_and_text(name: str) -> None:
    module, x, code, text = REFUSED[name]
    network = trace_network(module.eval(), x)
    nodes = {node.name for node in network.graph_module.graph.nodes}
    found = next(f for f in network.frozen if f.name == "first")
    assert found.code == code
    assert text in found.text
    assert found.node in nodes
    assert found.reason == f"{found.text} ({found.node})"


def test_optimised_python_leaves_the_same_parts_whole() -> None:
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-O", "-m", "helpers.frozen_lists"]
    env = {**os.environ, "PYTHONPATH": paths}
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["optimised"]
    assert said["frozen"] == json.loads(json.dumps(frozen_lists()))
