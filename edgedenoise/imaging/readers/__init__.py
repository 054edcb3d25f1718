"""Readers of image files: one module per format, and the one that chooses it by the first bytes of a file."""
