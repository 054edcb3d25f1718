"""Embedded metadata of image files: read and written as bytes, one module per container format."""
