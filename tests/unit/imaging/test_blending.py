"""Blended tiles: their weights add up to one everywhere, no seam is left, and exact tiles are not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.imaging.blending import blend_weights
from edgedenoise.imaging.tiling import Tiling, plan_tiles, run_bands, run_tiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SIZES = ((1, 1), (7, 90), (64, 64), (97, 131), (200, 61))
TILES = (0, 8, 24, 37, 64)


@pytest.mark.parametrize("multiple_of", [1, 2, 8])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", SIZES)
def test_the_weights_add_up_to_one_at_every_pixel(size: tuple[int, int], tile: int, multiple_of: int) -> None:
    plan = plan_tiles(*size, Tiling(3, multiple_of, blend_px=16), tile)
    for strip, side, length, count in zip(
        plan.strips_px, (plan.tile_height, plan.tile_width), size, (plan.rows, plan.columns), strict=True
    ):
        assert strip % multiple_of == 0
        assert 2 * strip <= side
        found = np.zeros(length)
        for start in range(0, count * side, side):
            weights = blend_weights(start, start + side, strip, length)
            first = max(start - strip, 0)
            assert weights.min() > 0
            found[first : first + len(weights)] += weights
        np.testing.assert_allclose(found, 1, atol=1e-6)


def _mean_network(tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Add to each pixel the mean of its whole tile."""
    for tile in tiles:
        yield tile + tile.mean(axis=(2, 3), keepdims=True)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", SIZES)
def test_a_network_that_looks_at_single_pixels_is_unchanged_by_blending(size: tuple[int, int], tile: int) -> None:
    image = np.random.default_rng(0).random((3, *size), np.float32)
    done: list[tuple[int, int]] = []
    plan = plan_tiles(*size, Tiling(0, 1, blend_px=16), tile)
    found = run_tiled(image, plan, iter, lambda *step: done.append(step))
    np.testing.assert_allclose(found, image, atol=1e-6)
    total = plan.rows * plan.columns
    assert done == [(one, total) for one in range(1, total + 1)]


@pytest.mark.parametrize("tile", [24, 37])
def test_no_seam_is_left_where_tiles_have_different_means(tile: int) -> None:
    """The mean of an even ramp is another one in each tile: exact tiling steps at the edges, blending does not."""
    height, width = 97, 131
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (3, height, width)).copy()
    steps = {}
    for name, tiling in (("side by side", Tiling(16)), ("blended", Tiling(0, blend_px=16))):
        found = run_tiled(ramp, plan_tiles(height, width, tiling, tile), _mean_network)
        steps[name] = float(np.abs(np.diff(found, axis=2)).max())
    assert steps["side by side"] > 0.1
    assert steps["blended"] < 0.03


def test_a_tile_that_begins_lower_goes_on_where_the_bands_ended() -> None:
    image = np.random.default_rng(0).random((3, 96, 64), np.float32)
    tiling = Tiling(0, blend_px=8)

    def cut(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        return image[:, rows][:, :, columns]

    first = next(iter(run_bands(plan_tiles(96, 64, tiling, 32), cut, iter)))
    rest = list(run_bands(plan_tiles(96, 64, tiling, 16, top=first.shape[1]), cut, iter))
    np.testing.assert_allclose(np.concatenate([first, *rest], axis=1), image, atol=1e-6)


def test_margins_hold_the_strip_and_exact_tiles_have_none() -> None:
    assert (Tiling(5, 4, blend_px=32).margin_px, Tiling(5, 4).margin_px) == (40, 8)
    assert plan_tiles(100, 100, Tiling(5), 50).strips_px == (0, 0)
    assert Tiling(5).is_exact
    assert not Tiling(5, blend_px=1).is_exact
