"""Backends behind one interface: `base` defines it, `registry` lists the backends, one folder holds each of them.

Importing this package imports no backend.
"""

import os

if __name__ == "runtimes":
    # The folder is installed as edgedenoise.runtimes; a second copy of its modules would have its own classes.
    raise ImportError("runtimes/ is installed as edgedenoise.runtimes: write `import edgedenoise.runtimes`")

# ONNX Runtime reads it when it is imported. Without it, it writes into the user's cache and reports to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
