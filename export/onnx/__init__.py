"""Export to ONNX: trace a network, check the graph contract, write a float bundle."""
