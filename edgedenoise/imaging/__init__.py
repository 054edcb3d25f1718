"""Images in memory and in files: formats, metadata, normalization, tiling and metrics."""
