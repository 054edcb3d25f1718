"""The TensorRT backend, its CUDA memory and the record of an engine."""
