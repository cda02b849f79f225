"""ONNX in: a network from an ONNX file as an nn.Module that trains and can be traced.

Every operator is one small function in `ops_*.py`; one that is missing, or that is used in a way that
cannot be read as a fixed function of its inputs, is refused by name.
"""

from dtp_edge.onnx.reader.reader import load_onnx as load_onnx
from dtp_edge.onnx.reader.registry import supported_operators as supported_operators
