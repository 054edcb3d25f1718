"""Files that accept some sizes only: each tile is enlarged to an accepted one, and the answer cut back.

That is exact: a tile carries its context (the halo), so what is added beyond it reaches no pixel that is kept.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import InputShapes
    from edgedenoise.runtimes.base import Session


class FittedSession:
    """A session that takes any size up to the largest one that its file accepts."""

    def __init__(self, inner: Session, shapes: InputShapes) -> None:
        self._inner = inner
        self._shapes = shapes
        self.effective = inner.effective

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array; see `stream`."""
        return next(iter(self.stream([x])))

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

    def close(self) -> None:
        """Close the session within."""
        self._inner.close()


def accepted_side(shapes: InputShapes, needed_px: int) -> int:
    """Return the least accepted side that holds `needed_px` pixels.

    Of a range only its best side is used while that is large enough: it is the one that a file was tuned for.

    Raises:
        InferenceError: none is large enough.
    """
    sides = shapes.sides_px[1:] if shapes.kind == "ranged" else shapes.sides_px
    for side in sides:
        if side >= needed_px:
            return side
    raise InferenceError(
        f"a tile of {needed_px} pixels was given to a file that accepts up to {sides[-1]}, margins included",
        hint="use a smaller --tile, or compile it again with a larger one",
    )
