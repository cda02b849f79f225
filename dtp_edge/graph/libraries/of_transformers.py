"""transformers' networks: a compact graph, which has no class, keeps the `config` that trainers ask for.

Inputs by keyword are traced in the order of `forward`; a graph's outputs are a dict with the keys that the
network's own have.
"""

from __future__ import annotations

from torch import nn

from dtp_edge.graph.libraries.library import Library


def _carry(graph: nn.Module, module: nn.Module) -> None:
    graph.config = module.config


LIBRARY = Library(package="transformers", base="PreTrainedModel", carry=_carry)
