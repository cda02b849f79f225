"""The copy of the user's network that is pruned: wrappers taken off, tensors of its own, plain weights.

What makes a network impossible to copy or to prune is refused here, before it is run: weights that are not
there yet, compiled or packed forms of a network. A network in another precision is copied to float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm
from torch.utils import _pytree as pytree

from dtp_edge.errors import InputError, UnsupportedError, first_line
from dtp_edge.graph.as_found import parts_of

_CONVERTED = {torch.float16, torch.bfloat16, torch.float64}
_FOUND_NOTHING = "Give the nn.Module itself, with its weights loaded."


def own_copy(model: Any) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy of the user's network that shares nothing with it, and notes on what differs in it.

    Wrappers (`DataParallel`, `torch.compile`) are taken off. Weight norm, spectral norm, other
    parametrizations and the masks of `nn.utils.prune` are computed once and become plain weights, so that
    channels can be pruned; in eval mode that is the same network. Weights of 16 or 64 bits become float32.

    Raises `InputError` for what is no network or has no weights yet, `UnsupportedError` for what cannot be
    copied or pruned, each with the reason.
    """
    module = unwrapped(model)
    _refuse(module)
    copied = in_float32(module)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, unwrapped(child))
    kinds = sorted(str(kind).removeprefix("torch.") for kind in other_precisions(module))
    converted = f"the network is {' and '.join(kinds)}: it is pruned, checked and written to files in float32"
    return copied, (*((converted,) if kinds else ()), *_folded(copied))


def other_precisions(model: nn.Module) -> set[torch.dtype]:
    """Return the precisions of a network's weights other than float32."""
    return {p.dtype for p in model.parameters()} & _CONVERTED


def floats_in_float32(inputs: Any) -> Any:
    """Return inputs of a network in another precision as its copy in float32 takes them."""
    return pytree.tree_map_only(torch.Tensor, lambda x: x.float() if x.dtype in _CONVERTED else x, inputs)


def in_float32(module: nn.Module) -> nn.Module:
    """Return a copy of a network that shares nothing with it, its weights in float32."""
    memo: dict[int, Any] = {}
    for tensor in _all_tensors(module):  # deepcopy refuses what was computed, inference mode what is written
        if not tensor.is_leaf or tensor.is_inference():
            memo[id(tensor)] = _own_tensor(tensor)
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:  # whatever the user's attributes raise
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied: {first_line(error)}",
            hint="Take out attributes that cannot be deep-copied (open files, locks, generators), and try "
            "copy.deepcopy(model).",
        ) from error
    return copied.float() if other_precisions(module) else copied


def with_plain_weights(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model itself, or `own_copy` of one that computes weights from others."""
    kinds = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    for part in model.modules():
        computes = any(isinstance(hook, kinds) for hook in part._forward_pre_hooks.values())
        if computes or parametrize.is_parametrized(part):
            return own_copy(model)
    return model, ()


def unwrapped(model: Any) -> Any:
    """Return the network inside `DataParallel`, `DistributedDataParallel` or `torch.compile`."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod
    return model


def _refuse(model: Any) -> None:
    name = type(model).__name__
    if isinstance(model, torch.export.ExportedProgram):
        raise InputError(
            "the network is an ExportedProgram, a graph without modules",
            hint="Give the nn.Module that it was exported from.",
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"the network is a {name}, not an nn.Module", hint=_FOUND_NOTHING)
    for path, part in model.named_modules():
        where = path or name
        if isinstance(part, torch.jit.ScriptModule):
            raise UnsupportedError(
                "is TorchScript, a compiled form without Python code",
                where=where,
                hint="Give the nn.Module that it was compiled from, or export it as ONNX and prune the file.",
            )
        if type(part).__module__.partition("quantized")[1]:
            raise UnsupportedError(
                f"is a {type(part).__name__} of torch.ao.quantization, whose int8 weights are packed",
                where=where,
                hint="Prune the float network and quantise the result (--int8 does so).",
            )
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _refuse_tensor(path, tensor)


def _refuse_tensor(path: str, tensor: torch.Tensor) -> None:
    if is_lazy(tensor):
        raise InputError(
            "is a parameter of a lazy module that has no shape yet",
            where=path,
            hint="Call the network once on its example input, or load its weights.",
        )
    if tensor.is_meta:
        raise InputError("is on the meta device and holds no values", where=path, hint=_FOUND_NOTHING)
    if tensor.is_sparse or tensor.is_quantized or tensor.layout != torch.strided:
        raise UnsupportedError(
            "is not an ordinary dense tensor",
            where=path,
            hint="Convert it with .to_dense() or .dequantize().",
        )
    floating = tensor.is_floating_point() or tensor.is_complex()
    if isinstance(tensor, nn.Parameter) and floating and tensor.dtype not in (torch.float32, *_CONVERTED):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UnsupportedError(
            f"is {kind}; networks are pruned, checked and delivered in float32",
            where=path,
            hint="Give model.float() with float32 inputs; training in mixed precision works on that.",
        )


def _own_tensor(tensor: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False), torch.no_grad():
        fresh = tensor.detach().clone()
    return nn.Parameter(fresh, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fresh


def _all_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors in a module and its parts, those in lists, dicts and plain objects too."""
    seen: set[int] = set()
    todo: list[Any] = [vars(part) for part in model.modules()]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield value
            if value.is_leaf and value.grad is not None:
                todo.append(value.grad)
            continue
        parts = parts_of(value)
        if parts is not None:
            todo += parts.values() if isinstance(parts, dict) else parts


def _folded(model: nn.Module) -> tuple[str, ...]:
    """Turn weights that are computed from others into plain ones, in place; return what was done."""
    found: dict[str, list[str]] = {}
    modes = [(part, part.training) for part in model.modules()]
    model.eval()  # a spectral norm goes on estimating in train mode
    try:
        with torch.no_grad():
            for path, part in model.named_modules():
                for what in _fold(part):
                    found.setdefault(what, []).append(path or type(part).__name__)
    finally:
        for part, mode in modes:
            part.training = mode
    return tuple(
        f"{what} of {len(paths)} layer{'s' * (len(paths) > 1)} ({', '.join(paths[:3])}"
        f"{', …' * (len(paths) > 3)}) is computed once and trained on as plain weights"
        for what, paths in found.items()
    )


def _fold(part: nn.Module) -> Iterator[str]:
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(part, hook.name)
            yield "weight_norm"
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(part, hook.name)
            yield "spectral_norm"
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)
            yield "the mask of nn.utils.prune"
    if parametrize.is_parametrized(part):
        kind = type(
            part
        )  # the weight is a property of a class that a copy shares with what it was copied from
        own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
        object.__setattr__(part, "__class__", type(kind.__name__, kind.__bases__, own))
        for name in list(part.parametrizations):  # type: ignore[arg-type,union-attr]
            kinds = [type(one).__name__.strip("_") for one in part.parametrizations[name]]  # type: ignore[index]
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
            if name in part._buffers:  # what is computed from several tensors comes back as a buffer
                setattr(part, name, nn.Parameter(part._buffers.pop(name)))  # type: ignore[arg-type]
            yield f"the parametrization {' + '.join(kinds)}"
