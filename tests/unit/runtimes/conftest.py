"""Fixtures of the tests of backends."""

from fake_nvidia import compiled, cuda, engine, machine

__all__ = ["compiled", "cuda", "engine", "machine"]
