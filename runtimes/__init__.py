"""Backends behind one protocol: `base` says what a runtime is, each other file is about one of them.

Importing this package imports no backend. The table of targets is `edgedenoise.exporting.targets`.
"""

if __name__ == "runtimes":
    # The folder is installed as edgedenoise.runtimes; a second copy of its modules would have classes of its own.
    raise ImportError("runtimes/ is installed as edgedenoise.runtimes: write `import edgedenoise.runtimes`")
