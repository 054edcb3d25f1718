"""The automatic tile: it follows the free memory, and the sizes that a file was built for."""

from __future__ import annotations

import pytest

from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.errors import DeviceMemoryError
from edgedenoise.imaging.tiling import Tiling, plan_tiles
from edgedenoise.runtimes.shapes import accepted_side
from edgedenoise.runtimes.tile_choice import first_tile, next_tile

TILING = Tiling(halo_px=22, bytes_per_px=1000)
MUCH = 1 << 40
FIXED = InputShapes("fixed", [512])
ENUMERATED = InputShapes("enumerated", [256, 512, 1024])
RANGED = InputShapes("ranged", [256, 512, 1024])


def work(size: tuple[int, int], shapes: InputShapes) -> float:
    """Return pixels that the network is given for each pixel of the image."""
    plan = plan_tiles(*size, TILING, first_tile(*size, TILING, shapes, MUCH))
    return plan.rows * plan.columns * accepted_side(shapes, max(plan.input_shape)) ** 2 / (size[0] * size[1])


@pytest.mark.parametrize("shapes", [FIXED, RANGED, ENUMERATED], ids=lambda s: s.kind)
def test_tiles_are_not_padded_to_the_next_size(shapes: InputShapes) -> None:
    # With margins, a tile of 512 pixels does not fit an input of 512: padded to 1024 it would cost 4 times as much.
    assert work((3000, 4000), shapes) < 1.4


def test_a_range_is_used_at_the_size_that_it_was_tuned_for() -> None:
    assert first_tile(3000, 4000, TILING, RANGED, MUCH) == 512 - 2 * 22
    assert first_tile(100, 100, TILING, RANGED, MUCH) == 512 - 2 * 22


def test_of_several_sizes_the_one_with_the_least_work_is_used() -> None:
    def side(height: int, width: int) -> int:
        plan = plan_tiles(height, width, TILING, first_tile(height, width, TILING, ENUMERATED, MUCH))
        return accepted_side(ENUMERATED, max(plan.input_shape))

    assert side(900, 900) == 1024
    assert side(400, 460) == 512
    assert side(100, 200) == 256


def test_little_memory_leaves_small_sizes_only() -> None:
    assert first_tile(900, 900, TILING, ENUMERATED, 4 * 512**2 * 1000) == 512 - 2 * 22
    assert first_tile(900, 900, TILING, ENUMERATED, 1) == 256 - 2 * 22
    assert first_tile(900, 900, TILING, FIXED, 1) == 512 - 2 * 22


def test_a_file_of_one_size_is_not_tried_again_with_the_same_size() -> None:
    tile = first_tile(900, 900, TILING, FIXED, MUCH)
    with pytest.raises(DeviceMemoryError, match="tiles of 512x512 pixels, the smallest that this file accepts") as told:
        next_tile(900, 900, TILING, FIXED, tile)
    assert "--tile 256" in str(told.value)


def test_back_off_goes_through_the_accepted_sizes() -> None:
    large, middle, small = (side - 2 * 22 for side in (1024, 512, 256))
    assert next_tile(3000, 4000, TILING, ENUMERATED, large) == middle
    assert next_tile(3000, 4000, TILING, ENUMERATED, middle) == small
    with pytest.raises(DeviceMemoryError, match="256x256"):
        next_tile(3000, 4000, TILING, ENUMERATED, small)
    assert next_tile(3000, 4000, TILING, RANGED, large) == middle
