"""One family of ONNX operators a file; `registry` imports every file that lies here."""
