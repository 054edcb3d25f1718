"""Training data: random crops, random draws and prefetching."""
