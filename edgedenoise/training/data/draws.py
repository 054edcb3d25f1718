"""Chance as a function: the same (seed, stream, step, sample) always gives the same numbers. No torch here.

There is no random state to save: a run that is resumed, or split among processes, draws what it would have
drawn.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What numbers are drawn for; each has numbers of its own."""

    CROP = 1
    """Which image, where in it, and how it is turned."""
    SUBSAMPLE = 2
    """Which pixel of every cell the random sub-sampler keeps."""
    PERMUTATION = 3
    """Which sub-image every pixel of a cell goes to."""
    HELD_OUT = 4
    """Crops of the images that are held out; the same ones at every validation."""
    CHANGE = 5
    """How much darker and noisier a student sees a patch, and which pixels of its target are recharged."""
    VIEWS = 6
    """How patches are turned for a teacher; of sample 0 for a whole step."""


def draw(seed: int, stream: Stream, step: int, sample: int) -> np.random.Generator:
    """Return the generator of one sample of one step.

    Philox is counter-based: `seed` and `stream` are its key, `step` and `sample` the high words of its
    counter, and the 2^128 values below them belong to this sample alone.
    """
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, 0, sample, step]))
