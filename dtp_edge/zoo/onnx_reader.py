"""The reader of ONNX files under its name until 0.2.0; new code imports `dtp_edge.onnx.reader`."""

from dtp_edge.onnx.reader import load_onnx as load_onnx
