"""A checkpoint's tensors into a network: which of those that a file holds, under which names, strictly."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.zoo.checkpoint_file import read_checkpoint

# where training programs keep the weights, the likeliest first; any other name is looked into as well
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "module", "params", "weights"),
    *("state_dict_ema", "model_ema", "ema"),
)
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
_NEVER = ("optimizer", "optimizers", "optimizer_states", "optimizer_state_dict", "scaler")
_LEVELS, _MOST_SETS = 4, 1000
# what training leaves beside a network's own tensors: counters of profilers and averages, tensors of a loss
_ASIDE = re.compile(
    r"(.*\.)?(total_ops|total_params|n_averaged|step|global_step)"
    r"|(.*_)?(criterion|criteria|loss|losses|loss_fn|loss_func|metrics?)\..*"
)
_NAMES_HINT = "Give the checkpoint of this very network; its tensor names must be the network's own."
_SOUND_HINT = "Save the network's state_dict() in float32 (model.float()), as safetensors or with torch.save."


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read `{name: tensor}` from a `.safetensors` file or a torch checkpoint that holds only tensors.

    Wrappers such as `{"state_dict": ...}` are opened. Raises `InputError` for a missing, truncated or
    unknown file, and for a pickle that would run code.
    """
    return max(_sets(Path(path)).values(), key=len)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into `module`, in place and strictly.

    Of several sets of weights in it, the one that names the most of the network's tensors is taken.
    Prefixes that wrappers leave ("module.", "_orig_mod.") are removed where that makes the names agree.
    Only batch norm's counter may be missing; counters of profilers and a loss's tensors may be there
    besides. Warns of what is left out. Raises `InputError` for missing, unexpected or misshapen tensors,
    for values that are not finite or of another kind than the network's; `module` is then unchanged.
    """
    own = module.state_dict()
    tensors = _matching(Path(path), own)
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    aside = [k for k in unexpected if _ASIDE.fullmatch(k)]
    unexpected = [k for k in unexpected if k not in aside]
    if missing or unexpected:
        raise InputError(_names_message(missing, unexpected), where=str(path), hint=_NAMES_HINT)
    if aside:
        said = f"{path}: {len(aside)} tensors of a loss or a counter are left out ({_few(aside)})"
        warnings.warn(said, stacklevel=2)
    tensors = {k: t for k, t in tensors.items() if k in own}
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
    _check_kinds(tensors, own, str(path))
    check_finite({k: t.to(own[k].dtype) for k, t in tensors.items()}, str(path))  # as it will be held
    module.load_state_dict(tensors, strict=False)


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` when a floating-point tensor holds NaN or infinity."""
    bad = [
        k
        for k, t in tensors.items()
        if (t.is_floating_point() or t.is_complex()) and not bool(torch.isfinite(t).all())
    ]
    if bad:
        raise InputError(
            f"{len(bad)} tensors hold NaN or infinite values: {_few(bad)}",
            where=where,
            hint="The training that wrote this file diverged; use an earlier checkpoint.",
        )


def match_classes(module: nn.Module, path: str | Path) -> int | None:
    """Number of outputs of the checkpoint's network, where all that differs from `module` is their number.

    That is: the tensors of another shape all have the same other length in dimension 0 (a matrix, a
    convolution of classes, their biases).
    """
    own = module.state_dict()
    tensors = _matching(Path(path), own)
    other = [(own[k].shape, t.shape) for k, t in tensors.items() if k in own and own[k].shape != t.shape]
    if not other or any(len(a) != len(b) or not a or a[1:] != b[1:] for a, b in other):
        return None
    pairs = {(a[0], b[0]) for a, b in other}
    return int(next(iter(pairs))[1]) if len(pairs) == 1 else None


def _matching(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the set of tensors in a file that names the most of `own`, its prefixes removed."""
    found = {label: _match_prefix(tensors, own) for label, tensors in _sets(path).items()}
    scores = {label: sum(k in own for k in tensors) for label, tensors in found.items()}
    best = max(scores, key=lambda label: scores[label])  # the first of several
    equal = [label for label in scores if scores[label] == scores[best]]
    if len(equal) > 1 and scores[best]:
        names = ", ".join(label or "the file's own" for label in equal[:4])
        said = f"{path} holds several sets of weights ({names}); the first of them is taken"
        warnings.warn(said, stacklevel=3)
    return found[best]


def _sets(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return every mapping of names to tensors in a checkpoint, by its keys, the likeliest first."""
    found: dict[str, dict[str, Tensor]] = {}
    todo: list[tuple[str, Any, int]] = [("", read_checkpoint(path), 0)]
    seen: set[int] = set()
    while todo and len(seen) < _MOST_SETS:
        label, value, level = todo.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        tensors = {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
        if tensors:
            found[label] = tensors
        if level < _LEVELS:
            inner = [(str(k), v) for k, v in value.items() if isinstance(v, Mapping) and k not in _NEVER]
            inner.sort(key=lambda pair: _WRAPPERS.index(pair[0]) if pair[0] in _WRAPPERS else len(_WRAPPERS))
            todo += [(f"{label}.{key}".lstrip("."), held, level + 1) for key, held in inner]
    if not found:
        raise InputError(
            "the checkpoint holds no named tensors",
            where=str(path),
            hint="Save the network's state_dict(), as safetensors or with torch.save.",
        )
    return found


def _check_kinds(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> None:
    """Refuse values that would become others: a copy between kinds of numbers cuts them off in silence."""
    for name, tensor in tensors.items():
        fault = _kind_fault(tensor, own[name].dtype)
        if fault is not None:
            raise InputError(f"the tensor {name} {fault}", where=where, hint=_SOUND_HINT)


def _kind_fault(tensor: Tensor, wanted: torch.dtype) -> str | None:
    if tensor.is_quantized or tensor.layout != torch.strided:
        return f"is {'quantised' if tensor.is_quantized else f'sparse ({tensor.layout})'}"
    if tensor.is_meta:
        return "has no values (it is on the device 'meta')"
    given = tensor.dtype
    if given == wanted:
        return None
    if given.is_floating_point and given.itemsize < 2:
        return f"is {_spelt(given)}, of eight bits: without its scales its values mean nothing"
    if given.is_floating_point and wanted.is_floating_point:
        return None
    other = given.is_complex or wanted.is_complex or wanted.is_floating_point
    if not other and bool((tensor.to(wanted) == tensor).all()):
        return None
    return f"is {_spelt(given)}, the network's is {_spelt(wanted)}: they are not the same values"


def _spelt(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
    shown = [name if len(name) <= 120 else f"{name[:117]}..." for name in names[:3]]
    return separator.join(shown) + (f"{separator}..." if len(names) > 3 else "")
