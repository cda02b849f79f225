"""The compact network in a vendor's environment: loaded from its archive, never by pickle."""

from __future__ import annotations

from typing import Any


def stored_network(job: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Return the network of a maker's job in eval mode, rewritten as the job says, and one input of zeros.

    The job then knows in how many places each rewrite changed it (`rewritten`).
    """
    import torch

    from dtp_edge.archive.folder import load_pruned
    from dtp_edge.runtimes.rewrites import rewrites_of

    module = load_pruned(job["pruned"]).eval()
    asked = [one for one in rewrites_of(job["format"]) if one.name in job["rewrites"]]
    job["rewritten"] = {one.name: one.apply(module) for one in asked}
    example = tuple(
        torch.zeros(port["shape"], dtype=getattr(torch, str(port["dtype"]))) for port in job["inputs"]
    )
    return module, example


def exported_program(module: Any, example: tuple[Any, ...]) -> Any:
    """Return the module as an exported program of the example's shapes."""
    import torch

    return torch.export.export(module, example, strict=False)
