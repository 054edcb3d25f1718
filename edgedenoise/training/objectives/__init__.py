"""Training objectives: losses, blind-spot sampling, distillation and quantization-aware training."""
