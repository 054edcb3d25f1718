"""Build TensorRT engines from the ONNX graphs."""
