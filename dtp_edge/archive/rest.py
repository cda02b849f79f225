"""What a network has besides its part, as `rest.safetensors`, and the network put together again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.files import require_regular, write_bytes
from dtp_edge.graph.part import Whole

__all__ = ["REST", "part_meta", "save_rest", "with_part"]

REST = "rest.safetensors"
_MOST_BYTES = 16 * 2**30
_HINT = "Give the network that was pruned, built anew by the same code."


def part_meta(whole: Whole) -> dict[str, Any]:
    """Return what `widths.json` keeps of a part: its name, and how many arguments it takes."""
    return {"part": whole.path, "part_arguments": len(whole.inputs)}


def save_rest(out_dir: str | Path, whole: Whole) -> Path:
    """Write the weights and buffers of everything but the part; return the file's path."""
    held = {name: t.detach().cpu().contiguous().clone() for name, t in sorted(whole.rest().items())}
    write_bytes(Path(out_dir) / REST, save(held))
    return Path(out_dir) / REST


def with_part(network: nn.Module, part: nn.Module, meta: Mapping[str, Any], folder: Path) -> nn.Module:
    """Return a copy of `network` with a loaded part in its place and the stored weights of the rest.

    **Raises:** `InputError` where the folder holds no part, or one of another network.
    """
    path, count = meta.get("part"), meta.get("part_arguments")
    if not isinstance(path, str) or not isinstance(count, int):
        hint = "Leave `whole` out: this run pruned the network itself."
        raise InputError("holds no part of a larger network", where=str(folder), hint=hint)
    whole = Whole.at(network, path, count)
    file = folder / REST
    require_regular(file, most_bytes=_MOST_BYTES, hint=_HINT)
    try:
        stored = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"is not a safetensors file ({error})", where=str(file), hint=_HINT) from error
    own = whole.rest()
    for name, tensor in own.items():
        found = stored.get(name)
        if found is None or found.shape != tensor.shape:
            what = "lacks it" if found is None else f"has it as {list(found.shape)}"
            raise InputError(
                f"does not fit the network: {name} is {list(tensor.shape)}, the file {what}",
                where=str(file),
                hint=_HINT,
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
    return whole.around(part)
