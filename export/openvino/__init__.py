"""Build OpenVINO IR files from the ONNX graphs."""
