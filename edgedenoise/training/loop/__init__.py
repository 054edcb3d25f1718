"""The training loop: preparation, steps, validation, logs and checkpoints."""
