"""The formats that boards want besides ONNX: one file `to_NAME.py` each, run in the vendor's environment."""
