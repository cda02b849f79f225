"""Types of numbers, ONNX's and torch's."""

from __future__ import annotations

import numpy as np
import onnx
import torch

from dtp_edge.errors import UnsupportedError

HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def torch_dtype(element: int) -> torch.dtype:
    """The torch type of one of ONNX's. Raises `UnsupportedError` for one that torch does not have."""
    if element == onnx.TensorProto.BFLOAT16:
        return torch.bfloat16
    try:
        return torch.from_numpy(np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(element))).dtype
    except (KeyError, TypeError) as error:
        known = element in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(element) if known else str(element)
        raise UnsupportedError(
            f"numbers of type {name} are not read", hint="Export the network in float32."
        ) from error
