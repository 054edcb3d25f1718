"""Build Core ML packages from the ONNX graphs, and emulate them."""
