"""The compact network in a vendor's environment: loaded from its archive, never by pickle."""

from __future__ import annotations

from typing import Any


def stored_network(job: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Return the network of a maker's job in eval mode, rewritten as the job says, and one input of zeros."""
    import torch

    from dtp_edge.archive.folder import load_pruned
    from dtp_edge.runtimes.rewrites import rewrites_of

    module = load_pruned(job["pruned"]).eval()
    for rewrite in rewrites_of(job["format"]):
        if rewrite.name in job["rewrites"]:
            rewrite.apply(module)
    example = tuple(
        torch.zeros(port["shape"], dtype=getattr(torch, str(port["dtype"]))) for port in job["inputs"]
    )
    return module, example


def exported_program(module: Any, example: tuple[Any, ...]) -> Any:
    """Return the module as an exported program of the example's shapes."""
    import torch

    return torch.export.export(module, example, strict=False)
