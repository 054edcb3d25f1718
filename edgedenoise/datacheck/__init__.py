"""Checks of a training folder: traces of resizing, noise correlation, duplicates."""
