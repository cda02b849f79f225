"""What the user means by MODEL: a zoo name, SOURCE:NAME (see `sources`), file.py:callable or file.onnx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError, nearest, users_line
from dtp_edge.graph.arguments import example_arguments
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.zoo import registry
from dtp_edge.zoo.checkpoint_file import file_sha256
from dtp_edge.zoo.sources.network_source import Source
from dtp_edge.zoo.sources.registry import find, prefixes
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
    trained: bool = True  # as far as anybody said: not of a source that builds networks without weights


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
    source = _find(spec, one[0] if one and len(one) == 3 else None, input_shape)
    module = source.build(num_classes)
    if weights is not None and num_classes is None and (classes := match_classes(module, weights)):
        module = source.build(classes)
    if weights is not None:
        load_weights(module, weights)
    else:
        check_finite(module.state_dict(), spec)
    shape = tuple(one or source.input_shape)
    given = source.example if source.example is not None else (_random_input(shape),)
    example = example_arguments(module, given)
    classes = _try_forward(module, example, spec)
    digest = None if weights is None else file_sha256(Path(weights))
    path = None if weights is None else str(weights)
    assumed = source.example is None and source.kind.endswith(".py") and not input_shape
    trained = weights is not None or source.trained
    return (
        module,
        example,
        ModelInfo(source.name, source.kind, shape, classes, path, digest, assumed, trained),
    )


def usual_input(spec: str) -> tuple[int, ...] | None:
    """The input `[channels, height, width]` that a source's network usually reads; None where nobody says.

    A `file.py:callable` is called for it. Raises `InputError` as `resolve_model` does.
    """
    source = _find(spec)
    unsaid = source.example is None and source.kind.endswith(".py")
    return None if unsaid else tuple(source.input_shape)


def _find(spec: str, channels: int | None = None, input_shape: InputShapes = None) -> Source:
    prefix, named, name = spec.partition(":")
    if named and prefix in prefixes():
        return find(prefix, name, channels, None if isinstance(input_shape, Mapping) else input_shape)
    if spec.endswith(".onnx"):
        from dtp_edge.onnx.reader import load_onnx  # needs onnxsim, which few networks do

        network, inputs = load_onnx(spec, input_shape)
        shape = tuple(inputs[0].shape[1:])
        return Source(Path(spec).stem, spec, lambda _classes: network, shape, inputs, trained=True)
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), attribute)
    if spec.endswith(".py"):
        raise InputError(
            "the name of the function is missing",
            where=spec,
            hint=f"Write {spec}:NAME, where NAME() returns the network.",
        )
    if colon and (near := nearest(prefix, prefixes())):
        raise InputError(f"there is no source {prefix!r}", where=spec, hint=f"Did you mean {near[0]}:{name}?")
    known = registry.entry(spec)
    return Source(
        spec,
        "zoo",
        lambda classes: registry.create(spec, classes, channels),
        known.input_shape if channels is None else (channels, *known.input_shape[1:]),
    )


def _from_file(path: Path, attribute: str) -> Source:
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
    if example is not None and not isinstance(example, (tuple, Mapping)):
        raise InputError(
            f"example_inputs must be a tensor, a tuple or a dict of tensors, not {type(example).__name__}",
            where=f"{path}:{attribute}",
            hint="Return (nn.Module, torch.randn(1, 3, 224, 224)), with the shape of your input.",
        )
    first = next(iter(example.values() if isinstance(example, Mapping) else example or ()), None)
    shape = tuple(first.shape[1:]) if isinstance(first, Tensor) else (3, 224, 224)
    return Source(attribute, str(path), lambda _classes: module, shape, example, trained=True)


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
