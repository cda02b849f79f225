"""ONNX in: a network from an ONNX file as an nn.Module that trains and can be traced.

Every operator is one small function in `ops/`, one family a file. One that is missing, or that is used in a
way that cannot be read as a fixed function of its inputs, is refused by name, and so is every attribute that
its function does not read. What was read is proved against ONNX Runtime on the file itself.

Why an own reader: onnx2torch (the importer that people use, last release 2024-08) has no LSTM, GRU,
GatherElements, ScatterElements or GridSample, and where a Resize differs from torch's it warns and goes on.
"""

from dtp_edge.onnx.reader.reader import load_onnx as load_onnx
from dtp_edge.onnx.reader.registry import supported_operators as supported_operators
