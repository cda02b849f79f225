"""A network as its file has it: with the outputs, names and metadata that its library's own reader wants."""

from __future__ import annotations

from typing import Any

from torch import nn

from dtp_edge.graph.libraries.library import Library, library_of

__all__ = ["InFile", "as_in_file", "port_names"]


class InFile(nn.Module):
    """Runs a network and returns those of its outputs that a file has."""

    def __init__(self, module: nn.Module, library: Library) -> None:
        super().__init__()
        self.module, self.library = module, library

    def forward(self, *inputs: Any) -> Any:
        return self.library.in_file(self.module(*inputs))


def as_in_file(module: nn.Module, network: nn.Module) -> nn.Module:
    """Return `module` with the outputs that a file of `network`, which it was made of, has."""
    library = library_of(network)
    return module if library is None else InFile(module, library)


def port_names(network: nn.Module) -> dict[str, Any]:
    """Return the names of inputs and outputs that a file of `network` has, as `export_onnx` takes them."""
    library = library_of(network)
    inputs, outputs = ((), ()) if library is None else library.names
    return {"input_names": inputs or None, "output_names": outputs or None}
