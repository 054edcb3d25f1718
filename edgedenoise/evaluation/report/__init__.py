"""HTML and text reports of measurements."""
