"""INT8: encode QDQ graphs, check their contracts, and search for the best within a budget."""
