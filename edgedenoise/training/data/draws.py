"""Random numbers as a function of (seed, stream, step, sample). No torch here.

There is no random state to save: a run that is resumed, or split among processes, draws the same numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purpose of random numbers; the numbers of different purposes are independent."""

    CROP = 1
    """Image, position and turn of a patch."""
    SUBSAMPLE = 2
    """Pixel of every cell that the random sub-sampler keeps."""
    PERMUTATION = 3
    """Sub-image that every pixel of a cell goes to."""
    HELD_OUT = 4
    """Crops of the held-out images; the same ones at every validation."""
    CHANGE = 5
    """Gain and noise of a patch that a student sees, and the pixels of its target that are recharged."""
    VIEWS = 6
    """Turns of the patches for a teacher; drawn for sample 0 and used for the whole step."""
    TILE = 7
    """Large crops of clean images and their noise, from which several patches are cut."""


def draw(seed: int, stream: Stream, step: int, sample: int) -> np.random.Generator:
    """Return the generator of one sample of one step.

    Philox is counter-based: `seed` and `stream` are its key, `step` and `sample` the high words of its
    counter, and the 2^128 values below them belong to this sample alone.
    """
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, 0, sample, step]))
