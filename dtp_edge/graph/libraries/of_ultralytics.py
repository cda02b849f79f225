"""Ultralytics' networks: YOLO detectors, segmenters, pose estimators.

- In evaluation a head returns its input maps too, of which the loss reads nothing but their sizes. Returned
  as they are, they would keep every channel of three large layers; so a traced head returns maps of zeros.
- Its C2f blocks halve what a convolution puts out. Cut to unequal halves they are C2f blocks that split.
- Its own reader, `YOLO("model.onnx")`, wants one output and metadata.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn

from dtp_edge.graph.libraries.library import Library, Sizes

CARRIED = ("stride", "names", "nc", "args", "task", "yaml", "end2end")


def _head(module: nn.Module) -> Any:
    return module.model[-1]  # type: ignore[index]


def _without_maps(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the head's own `forward_head`, and return maps of zeros of the same sizes."""
    found = type(self).forward_head(self, *args, **kwargs)
    if isinstance(found, dict) and isinstance(found.get("feats"), (list, tuple)):
        found["feats"] = [_zeros(x) for x in found["feats"]]
    return found


def _zeros(x: Tensor) -> Tensor:
    return x.new_zeros((x.shape[0], 1, *x.shape[2:]))


def _prepare(module: nn.Module) -> None:
    head = _head(module)
    if hasattr(type(head), "forward_head"):
        head.forward_head = types.MethodType(_without_maps, head)
        head.shape = None  # sizes that were cached with other tensors


def _restore(module: nn.Module) -> None:
    vars(_head(module)).pop("forward_head", None)


def _fit(module: nn.Module, halves: Sizes) -> None:
    from dtp_edge.graph.libraries import ultralytics_blocks

    for name, part in module.named_modules():
        kind = ultralytics_blocks.uneven(type(part))
        if kind is None:
            continue
        parts = halves(f"{name}.cv1.conv.weight", 0, int(part.c))  # type: ignore[arg-type]
        if parts is None:
            continue
        if parts[0] != parts[1]:
            part.__class__ = kind
            part.parts = parts  # type: ignore[assignment]
        else:
            part.c = parts[0]  # type: ignore[assignment]


def _carry(graph: nn.Module, module: nn.Module) -> None:
    for name in CARRIED:
        if hasattr(module, name):
            setattr(graph, name, getattr(module, name))
    graph.nc = _head(module).nc
    if hasattr(module, "args"):
        graph.criterion = module.init_criterion()  # type: ignore[operator]  # it reads the head's attributes


def _in_file(outputs: Any) -> Any:
    """Return the decoded boxes, of a segmenter with the prototypes of its masks."""
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


def _metadata(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, str]:
    _, channels, height, width = inputs[0].shape
    found = {
        "stride": int(max(module.stride)),  # type: ignore[arg-type]
        "task": getattr(module, "task", "detect"),
        "head": type(_head(module)).__name__,
        "batch": 1,
        "imgsz": [height, width],
        "names": module.names,
        "args": {},
        "channels": channels,
        "end2end": bool(getattr(module, "end2end", False)),
    }
    if found["task"] == "pose":
        found["kpt_shape"] = list(_head(module).kpt_shape)
    return {name: str(value) for name, value in found.items()}


LIBRARY = Library(
    package="ultralytics",
    base="BaseModel",
    prepare=_prepare,
    restore=_restore,
    fit=_fit,
    carry=_carry,
    in_file=_in_file,
    names=(("images",), ("output0",)),
    metadata=_metadata,
)
