"""What the user means by MODEL: a zoo name, torchvision:NAME, timm:NAME, file.py:callable or file.onnx."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError, nearest, users_line
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.zoo import registry
from dtp_edge.zoo.checkpoint_file import file_sha256
from dtp_edge.zoo.weights import check_finite, load_weights, match_classes

InputShapes = tuple[int, ...] | Mapping[str, tuple[int, ...]] | None


@dataclass(frozen=True)
class ModelInfo:
    """Where a network came from. `num_classes` is the size of its output, None where that is no vector."""

    name: str
    source: str
    input_shape: tuple[int, ...]
    num_classes: int | None
    weights: str | None = None
    weights_sha256: str | None = None
    assumed_input: bool = False  # nobody said what the input looks like


@dataclass(frozen=True)
class _Source:
    """How to build the network (for an optional number of classes), and its usual input."""

    name: str
    kind: str
    build: Callable[[int | None], nn.Module]
    input_shape: tuple[int, ...]
    example: tuple[Any, ...] | None = None


def resolve_model(
    spec: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    input_shape: InputShapes = None,
) -> tuple[nn.Module, tuple[Any, ...], ModelInfo]:
    """Build the network that `spec` names and load its weights.

    `num_classes` and `input_shape` (`[channels, height, width]`; of an ONNX file also one by input name)
    override the source's usual ones. Where `num_classes` is None it is taken from the checkpoint. Returns the
    module in eval mode, example inputs of batch 1, and where it came from. Raises `InputError`.
    """
    if isinstance(input_shape, Mapping) and not spec.endswith(".onnx"):
        raise InputError(
            "names inputs, which only an ONNX file has",
            where="--input-shape",
            hint="Give one shape, such as 3,224,224, or let FILE.py:NAME return (network, example_inputs).",
        )
    one = None if isinstance(input_shape, Mapping) else input_shape
    source = _find(spec, one[0] if one else None, input_shape)
    module = source.build(num_classes)
    if weights is not None and num_classes is None and (classes := match_classes(module, weights)):
        module = source.build(classes)
    if weights is not None:
        load_weights(module, weights)
    else:
        check_finite(module.state_dict(), spec)
    shape = tuple(one or source.input_shape)
    example = source.example if source.example is not None else (_random_input(shape),)
    classes = _try_forward(module, example, spec)
    digest = None if weights is None else file_sha256(Path(weights))
    path = None if weights is None else str(weights)
    assumed = source.example is None and source.kind.endswith(".py") and not input_shape
    return module, example, ModelInfo(source.name, source.kind, shape, classes, path, digest, assumed)


def usual_input(spec: str) -> tuple[int, ...] | None:
    """The input `[channels, height, width]` that a source's network usually reads; None where nobody says.

    A `file.py:callable` is called for it. Raises `InputError` as `resolve_model` does.
    """
    source = _find(spec)
    unsaid = source.example is None and source.kind.endswith(".py")
    return None if unsaid else tuple(source.input_shape)


def _find(spec: str, channels: int | None = None, input_shape: InputShapes = None) -> _Source:
    if spec.startswith("torchvision:"):
        return _torchvision(spec.removeprefix("torchvision:"), channels)
    if spec.startswith("timm:"):
        return _timm(spec.removeprefix("timm:"), channels)
    if spec.endswith(".onnx"):
        from dtp_edge.onnx.reader import load_onnx  # needs onnxsim, which few networks do

        network, inputs = load_onnx(spec, input_shape)
        shape = tuple(inputs[0].shape[1:])
        return _Source(Path(spec).stem, spec, lambda _classes: network, shape, inputs)
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), attribute)
    if spec.endswith(".py"):
        raise InputError(
            "the name of the function is missing",
            where=spec,
            hint=f"Write {spec}:NAME, where NAME() returns the network.",
        )
    if colon and (near := nearest(path, ("torchvision", "timm"))):
        raise InputError(
            f"there is no source {path!r}", where=spec, hint=f"Did you mean {near[0]}:{attribute}?"
        )
    known = registry.entry(spec)
    return _Source(
        spec,
        "zoo",
        lambda classes: registry.create(spec, classes, channels),
        known.input_shape if channels is None else (channels, *known.input_shape[1:]),
    )


def _torchvision(name: str, channels: int | None) -> _Source:
    models = _optional("torchvision.models", "torchvision")
    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    if channels not in (None, 3):
        raise InputError(
            f"torchvision's networks read 3 channels, the data has {channels}",
            where=name,
            hint="Take a timm network, which can be built for other inputs, or data with 3 channels.",
        )

    def build(classes: int | None) -> nn.Module:
        wanted = {} if classes is None else {"num_classes": classes}
        if name in ("googlenet", "inception_v3"):  # their auxiliary heads exist only in training
            wanted |= {"init_weights": False}
        return (
            models.get_model(name, weights=None, weights_backbone=None, **wanted)
            if ("/" in name or _has_backbone(name))
            else models.get_model(name, weights=None, **wanted)
        )

    size = 299 if name == "inception_v3" else 224
    return _Source(name, "torchvision", build, (3, size, size))


def _has_backbone(name: str) -> bool:
    return any(part in name for part in ("rcnn", "ssd", "retinanet", "fcos", "deeplab", "fcn", "lraspp"))


def _timm(name: str, channels: int | None) -> _Source:
    timm = _optional("timm", "timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    options: dict[str, Any] = {} if channels is None else {"in_chans": channels}

    def build(classes: int | None) -> nn.Module:
        return timm.create_model(
            name, pretrained=False, **options, **({} if classes is None else {"num_classes": classes})
        )

    shape = (
        tuple(timm.get_pretrained_cfg(name, allow_unregistered=True).input_size or (3, 224, 224))
        if (timm.get_pretrained_cfg(name, allow_unregistered=True))
        else (3, 224, 224)
    )
    return _Source(name, "timm", build, shape if channels is None else (channels, *shape[1:]))


def _from_file(path: Path, attribute: str) -> _Source:
    made = call_from_file(path, attribute)
    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{attribute}() returned {type(made).__name__}, not a network",
            where=str(path),
            hint="Return an nn.Module, or (nn.Module, example_inputs).",
        )
    if isinstance(example, Tensor):
        example = (example,)
    if example is not None and not isinstance(example, tuple):
        raise InputError(
            f"example_inputs must be a tensor or a tuple of tensors, not {type(example).__name__}",
            where=f"{path}:{attribute}",
            hint="Return (nn.Module, torch.randn(1, 3, 224, 224)), with the shape of your input.",
        )
    shape = tuple(example[0].shape[1:]) if example and isinstance(example[0], Tensor) else (3, 224, 224)
    return _Source(attribute, str(path), lambda _classes: module, shape, example)


def _optional(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # a torchvision built for another torch fails with more than ImportError
        raise InputError(
            f"{package} cannot be imported ({type(error).__name__}: {error})",
            hint=f"Install a version that fits torch {torch.__version__}: pip install {package}.",
        ) from error


def _unknown(source: str, name: str, known: list[str]) -> InputError:
    near = nearest(name, known)
    hint = (
        f"Did you mean {', '.join(f'{source}:{n}' for n in near)}?"
        if near
        else f"`python -c 'import {source}; help({source})'` leads to its list."
    )
    return InputError(f"{source} has no network '{name}'", hint=hint)


def _random_input(shape: tuple[int, ...]) -> Tensor:
    try:
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    except RuntimeError as error:
        raise InputError(
            f"an input of {list(shape)} does not fit into memory",
            where="--input-shape",
            hint="Give channels,height,width of one input, such as 3,224,224.",
        ) from error


def _try_forward(module: nn.Module, example: tuple[Any, ...], spec: str) -> int | None:
    """Run once in eval mode, so that a wrong input size is told before anything long starts."""
    module.eval()
    try:
        with torch.no_grad():
            out = module(*example)
    except Exception as error:
        shapes = ", ".join(str(list(e.shape)) for e in example if isinstance(e, Tensor))
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"the network does not run on an input of shape {shapes}: {first}",
            where=users_line(error) or spec,
            hint="Let the callable return (network, example_inputs), or use data of the size it expects.",
        ) from error
    return int(out.shape[1]) if isinstance(out, Tensor) and out.ndim == 2 else None
