"""Files that accept some sizes only: each tile is enlarged to an accepted size, and the answer is cropped.

This is exact: a tile carries its context (the halo), so the added pixels reach no pixel that is kept.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.errors import InferenceError
from edgedenoise.runtimes.base import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import InputShapes


class FittedSession(Session):
    """A session that takes any size up to the largest one that its file accepts."""

    def __init__(self, inner: Session, shapes: InputShapes) -> None:
        self._inner = inner
        self._shapes = shapes
        self.effective = inner.effective
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run (1, 3, h, w) arrays of any size in order.

        Raises:
            InferenceError: an array is larger than the largest accepted size.
        """
        sizes: deque[tuple[int, int]] = deque()

        def enlarged() -> Iterator[NDArray[np.float32]]:
            for tile in tiles:
                height, width = tile.shape[2:]
                sizes.append((height, width))
                side = accepted_side(self._shapes, max(height, width))
                yield np.pad(tile, ((0, 0), (0, 0), (0, side - height), (0, side - width)), mode="edge")

        for answer in self._inner.stream(enlarged()):
            height, width = sizes.popleft()
            yield np.ascontiguousarray(answer[:, :, :height, :width])

    def timed_run(self, x: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Run one array; the time leaves out enlarging it and cropping the answer."""
        height, width = x.shape[2:]
        side = accepted_side(self._shapes, max(height, width))
        enlarged = np.pad(x, ((0, 0), (0, 0), (0, side - height), (0, side - width)), mode="edge")
        seconds, answer = self._inner.timed_run(enlarged)
        return seconds, np.ascontiguousarray(answer[:, :, :height, :width])

    def close(self) -> None:
        """Close the wrapped session."""
        self._inner.close()


def accepted_side(shapes: InputShapes, needed_px: int) -> int:
    """Return the smallest accepted side that holds `needed_px` pixels.

    Of a range, the best side is used as long as it is large enough, because the file was tuned for it.

    Raises:
        InferenceError: no side is large enough.
    """
    sides = shapes.sides_px[1:] if shapes.kind == "ranged" else shapes.sides_px
    for side in sides:
        if side >= needed_px:
            return side
    raise InferenceError(
        f"a tile has {needed_px} pixels; expected at most {sides[-1]}, margins included, which this file accepts",
        hint="Use a smaller --tile, or compile the variant again for a larger one",
    )
