"""The Core ML backend."""
