"""From a checkpoint to artefacts: the ONNX graph, its quantized forms, and what each backend makes of them."""
