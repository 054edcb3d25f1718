"""Activation ranges, measured once: calibration sets, ranges over them, and the schemes that encode them."""

if __name__ == "calibration":
    # The folder is installed as edgedenoise.calibration; a second copy of its modules would have classes of its own.
    raise ImportError("calibration/ is installed as edgedenoise.calibration: write `import edgedenoise.calibration`")
