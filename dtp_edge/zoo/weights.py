"""Read a checkpoint as data: safetensors, or torch.load with weights_only=True; nothing else is opened."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema", "module", "params")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read `{name: tensor}` from a `.safetensors` file or a torch checkpoint that holds only tensors.

    Wrappers such as `{"state_dict": ...}` are opened. Raises `InputError` for a missing, truncated or
    unknown file, and for a pickle that would run code.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            "this is a folder, not a checkpoint", where=str(path), hint="Name the file inside it."
        )
    if not path.is_file():
        raise InputError("there is no such checkpoint", where=str(path), hint="Check the path of --weights.")
    if path.stat().st_size == 0:
        raise InputError("the checkpoint is empty", where=str(path), hint="Copy or download it again.")
    found = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    tensors = _unwrap(found)
    if not tensors:
        raise InputError(
            "the checkpoint holds no named tensors",
            where=str(path),
            hint="Save the network's state_dict(), as safetensors or with torch.save.",
        )
    return tensors


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into `module`, in place and strictly.

    Prefixes that wrappers leave ("module.", "_orig_mod.") are removed where that makes the names agree.
    Only batch norm's counter may be missing. Raises `InputError` for missing, unexpected or misshapen
    tensors, and for values that are not finite; `module` is then unchanged.
    """
    own = module.state_dict()
    tensors = _match_prefix(read_weights(path), own)
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    if missing or unexpected:
        raise InputError(_names_message(missing, unexpected), where=str(path), hint=_NAMES_HINT)
    wrong = [
        f"{k} is {list(t.shape)}, not {list(own[k].shape)}"
        for k, t in tensors.items()
        if t.shape != own[k].shape
    ]
    if wrong:
        raise InputError(
            f"{len(wrong)} tensors have another shape than the network's: {_few(wrong, '; ')}",
            where=str(path),
            hint="Build the network with the classes and widths that the checkpoint was saved with.",
        )
    check_finite(tensors, str(path))
    module.load_state_dict(tensors, strict=False)


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` when a floating-point tensor holds NaN or infinity."""
    bad = [k for k, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise InputError(
            f"{len(bad)} tensors hold NaN or infinite values: {_few(bad)}",
            where=where,
            hint="The training that wrote this file diverged; use an earlier checkpoint.",
        )


def match_classes(module: nn.Module, path: str | Path) -> int | None:
    """Number of outputs in the checkpoint's last matrix, if the network's last layer has another number."""
    own = module.state_dict()
    tensors = _match_prefix(read_weights(path), own)
    last = [k for k, t in own.items() if t.ndim == 2 and k in tensors and tensors[k].ndim == 2]
    if not last:
        return None
    ours, theirs = own[last[-1]].shape, tensors[last[-1]].shape
    return int(theirs[0]) if theirs[0] != ours[0] and theirs[1] == ours[1] else None


_NAMES_HINT = "Give the checkpoint of this very network; its tensor names must be the network's own."


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors":
        return True
    # eight bytes of header length, then JSON
    return len(head) == 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"the file is truncated or is not safetensors ({error})",
            where=str(path),
            hint="Copy or download it again, and compare its size with the source.",
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise InputError(
                "the checkpoint is a pickle that holds Python objects or code; it was not run",
                where=str(path),
                hint="In the program that made it, save only the weights: "
                "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors').",
            ) from error
        raise _truncated(path, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise _truncated(path, error) from error


def _truncated(path: Path, error: Exception) -> InputError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return InputError(
        f"the checkpoint is truncated or in no known format ({first})",
        where=str(path),
        hint="Copy or download it again; safetensors and torch.save(state_dict) files are read.",
    )


def _unwrap(found: Any) -> dict[str, Tensor]:
    for _ in range(4):
        if not isinstance(found, Mapping):
            return {}
        tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
        inner = next((found[k] for k in _WRAPPERS if isinstance(found.get(k), Mapping)), None)
        if tensors or inner is None:
            return tensors
        found = inner
    return {}


def _match_prefix(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip up to three nested wrapper prefixes, as many as name the most of the network's tensors."""
    best, layer = tensors, [tensors]
    for _ in range(3):
        layer = [inner for outer in layer for prefix in _PREFIXES if (inner := _strip(outer, prefix))]
        for candidate in layer:
            if sum(k in own for k in candidate) > sum(k in own for k in best):
                best = candidate
    return best


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor] | None:
    """Without the prefix; None where nothing has it, or where two names would become one."""
    stripped = {k.removeprefix(prefix): t for k, t in tensors.items()}
    changed = stripped.keys() != tensors.keys()
    return stripped if changed and len(stripped) == len(tensors) else None


def _names_message(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} tensors of the network are not in the checkpoint ({_few(missing)})")
    if unexpected:
        parts.append(
            f"{len(unexpected)} tensors of the checkpoint are not in the network ({_few(unexpected)})"
        )
    return " and ".join(parts)


def _few(names: list[str], separator: str = ", ") -> str:
    return separator.join(names[:3]) + (f"{separator}..." if len(names) > 3 else "")
