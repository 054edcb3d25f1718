"""Activation ranges, measured once: calibration sets, ranges over them, and the schemes that encode them."""
