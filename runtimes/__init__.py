"""Backends behind one interface: `base` defines it, `registry` lists the backends, one folder holds each of them.

Importing this package imports no backend.
"""

if __name__ == "runtimes":
    # The folder is installed as edgedenoise.runtimes; a second copy of its modules would have its own classes.
    raise ImportError("runtimes/ is installed as edgedenoise.runtimes: write `import edgedenoise.runtimes`")
