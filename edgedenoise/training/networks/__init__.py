"""Network architectures and the table of network names."""
