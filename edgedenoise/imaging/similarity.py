"""Leave out frames that look like the one before: the stochastic similarity filter of StreamDiffusion.

A frame whose similarity to the last denoised one exceeds a threshold is left out with a probability that rises to 1 for
equal frames (Kodaira et al., StreamDiffusion, 2023, section 3.5). A scene that stands still therefore costs almost
nothing, and a slow change still comes through after some frames. Here the frames are compared by the means of their
cells, without their mean colour: noise averages out, and a small object counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELL_PX: Final = 16
DEFAULT_THRESHOLD: Final = 0.98
"""Similarity above which frames may be left out, as in StreamDiffusion."""


class SimilarityFilter:
    """Decide for each frame of a stream whether the result before it can be shown again.

    Args:
        threshold: similarity, 0 to 1, from which frames may be left out. 1 leaves out none.
        most: largest number of frames left out in a row.
        seed: seed of the random decisions; the same frames give the same decisions.

    Raises:
        UsageError: a number is out of range.

    Example:
        >>> import numpy
        >>> still = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), numpy.uint8)
        >>> similar = SimilarityFilter(most=2)
        >>> [similar(still) for _ in range(5)]
        [False, True, True, False, True]
    """

    def __init__(self, threshold: float = DEFAULT_THRESHOLD, *, most: int = 10, seed: int = 0) -> None:
        if not _is_share(threshold):
            raise UsageError(f"the similarity is {threshold!r}; expected 0 to 1")
        if most < 1:
            raise UsageError(f"the number of frames left out in a row is {most!r}; expected 1 or more")
        self._threshold = threshold
        self._most = most
        self._random = np.random.default_rng(seed)
        self._reference: NDArray[np.float32] | None = None
        self._skipped = 0

    def __call__(self, frame: NDArray[Any]) -> bool:
        """Return whether a frame (H, W) or (H, W, C) may be left out; otherwise later frames are compared with it."""
        cells = cell_means(frame)
        similarity = _similarity(self._reference, cells)
        probability = 0.0 if self._threshold == 1 else 1 - (1 - similarity) / (1 - self._threshold)
        if self._random.random() < probability and self._skipped < self._most:
            self._skipped += 1
            return True
        self._reference, self._skipped = cells, 0
        return False


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def cell_means(frame: NDArray[Any], cell_px: int = _CELL_PX) -> NDArray[np.float32]:
    """Return the means of square cells of (H, W) or (H, W, C), as (rows, columns, C); the last ones may be smaller."""
    planes = frame[..., None] if frame.ndim == 2 else frame
    sums = np.add.reduceat(planes, np.arange(0, planes.shape[0], cell_px), axis=0, dtype=np.float32)
    sums = np.add.reduceat(sums, np.arange(0, planes.shape[1], cell_px), axis=1)
    rows, columns = (np.diff(np.append(np.arange(0, side, cell_px), side)) for side in planes.shape[:2])
    return np.asarray(sums / (rows[:, None, None] * columns[None, :, None]), np.float32)


def _similarity(reference: NDArray[np.float32] | None, cells: NDArray[np.float32]) -> float:
    """Return the cosine of the angle between two images about the mean of the first; 1 for equal ones."""
    if reference is None or reference.shape != cells.shape:
        return -1.0
    centre = reference.mean(axis=(0, 1))
    a, b = (reference - centre).ravel(), (cells - centre).ravel()
    if np.array_equal(a, b):
        return 1.0
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else -1.0
