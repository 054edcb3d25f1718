"""Backends behind one protocol: `base` says what a runtime is, each other file is about one of them.

Importing this package imports no backend. The table of targets is `edgedenoise.export.targets`.
"""
