"""Videos and cameras: read, denoise and write them frame by frame (extra `video`)."""
