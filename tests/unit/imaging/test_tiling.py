"""An image denoised tile by tile is, bit for bit, the image denoised whole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import load
from edgedenoise.errors import DeviceMemoryError, UsageError
from edgedenoise.imaging.tiling import (
    AUTO_INPUT_PX,
    AUTO_TILE_BYTES,
    MIN_TILE_PX,
    WHOLE,
    Tiling,
    auto_tile,
    plan_tiles,
    reflected,
    run_tiled,
    smaller_tile,
    tile_bytes,
)
from edgedenoise.runtimes.base import Session
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.pipeline import run_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgedenoise.bundles.manifest import Variant

VARIANTS = ("onnx-fp32", "onnx-int8-u8s7")
TILES = (64, 100, 128, 256, 512)
SIZES = ((1, 1), (1, 9), (7, 1), (2, 3), (31, 33), (63, 129), (257, 101), (301, 523))


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 63])
@pytest.mark.parametrize("margin", [0, 1, 8, 29, 100])
def test_margins_are_numpys_reflection(size: int, margin: int) -> None:
    expected = np.pad(np.arange(size), margin, mode="reflect")  # repeats where the image is shorter than the margin
    np.testing.assert_array_equal(reflected(-margin, size + margin, size), expected)


@pytest.mark.parametrize("multiple_of", [1, 2, 8])
@pytest.mark.parametrize("tile", [WHOLE, 8, 37, 64, 512])
def test_a_plan_covers_every_pixel_once_on_the_networks_grid(tile: int, multiple_of: int) -> None:
    tiling = Tiling(halo_px=5, multiple_of=multiple_of)
    for height, width in [(1, 1), (8, 8), (63, 65), (301, 523), (1000, 7)]:
        plan = plan_tiles(height, width, tiling, tile)
        covered = np.zeros((height, width), int)
        for y, x in plan.origins():
            assert y % multiple_of == x % multiple_of == 0
            covered[y : y + plan.tile_height, x : x + plan.tile_width] += 1
        assert (covered == 1).all(), (height, width)
        assert plan.tile_height % multiple_of == plan.tile_width % multiple_of == 0
        assert plan.margin_px % multiple_of == 0
        assert plan.margin_px >= tiling.halo_px
        if tile != WHOLE:
            assert max(plan.tile_height, plan.tile_width) <= tile


def test_tiles_are_balanced_instead_of_one_large_and_one_sliver() -> None:
    plan = plan_tiles(1000, 520, Tiling(halo_px=29), 512)
    assert (plan.tile_height, plan.tile_width) == (500, 260)
    assert plan.input_shape == (558, 318)


@pytest.mark.parametrize("tile", [-1, 3])
def test_a_tile_that_no_plan_can_have_is_refused(tile: int) -> None:
    with pytest.raises(UsageError, match=rf"expected 0 .* or at least 4 pixels, got {tile}"):
        plan_tiles(100, 100, Tiling(halo_px=5, multiple_of=4), tile)


def test_tiles_arrive_in_order_and_each_is_reported() -> None:
    image = np.random.default_rng(0).random((3, 50, 70), dtype=np.float32)
    plan = plan_tiles(50, 70, Tiling(halo_px=4), 32)
    seen: list[tuple[int, int]] = []
    same = run_tiled(image, plan, iter, lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(same, image)
    assert seen == [(i, 6) for i in range(1, 7)]


# ---------------------------------------------------------------- exactness


@pytest.fixture(scope="module", params=VARIANTS)
def opened(request: pytest.FixtureRequest, committed_bundle: Path) -> Iterator[tuple[CheckedSession, Bundle]]:
    bundle = Bundle.open(committed_bundle)
    session = open_variant(bundle, bundle.variant(request.param), selftest=False)
    yield session, bundle
    session.close()


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).random((3, height, width), dtype=np.float32)


def run(opened: tuple[CheckedSession, Bundle], pixels: np.ndarray, tiling: Tiling, tile: int) -> np.ndarray:
    session, bundle = opened
    return run_image(session, pixels, bundle.manifest.input_normalization, tiling, tile=tile)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiled_is_whole_bit_for_bit(opened: tuple[CheckedSession, Bundle], size: tuple[int, int]) -> None:
    pixels, tiling = random_pixels(*size), opened[1].manifest.tiling
    whole = run(opened, pixels, tiling, WHOLE)
    differences = {tile: float(np.abs(run(opened, pixels, tiling, tile) - whole).max()) for tile in TILES}
    assert differences == dict.fromkeys(TILES, 0.0)


def test_a_halo_of_one_pixel_less_is_seen(opened: tuple[CheckedSession, Bundle]) -> None:
    """So that the promise above can fail: the recorded halo is the receptive field, and not more."""
    pixels, tiling = random_pixels(130, 200), opened[1].manifest.tiling
    less = msgspec.structs.replace(tiling, halo_px=tiling.halo_px - 1)
    assert np.abs(run(opened, pixels, less, 64) - run(opened, pixels, tiling, WHOLE)).max() > 0


def test_tiles_on_a_coarser_grid_are_exact_too(opened: tuple[CheckedSession, Bundle]) -> None:
    pixels, tiling = random_pixels(131, 201), opened[1].manifest.tiling
    coarse = msgspec.structs.replace(tiling, multiple_of=5)
    np.testing.assert_array_equal(run(opened, pixels, coarse, 64), run(opened, pixels, tiling, WHOLE))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_denoiser_gives_the_same_16_bits_with_any_tile(committed_bundle: Path, precision: str) -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (101, 143, 3), dtype=np.uint16)
    answers = []
    for tile in (0, 64, "auto"):
        with load(committed_bundle, precision=precision, tile=tile) as denoiser:
            answers.append(denoiser(picture))
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


# ---------------------------------------------------------------- memory


def test_auto_takes_the_largest_tile_that_fits_a_quarter_of_the_free_memory() -> None:
    tiling = Tiling(halo_px=8, bytes_per_px=1000)
    assert tile_bytes(5000, 5000, tiling, 500) == 516 * 516 * 1000
    assert auto_tile(5000, 5000, tiling, 4 * 516 * 516 * 1000) == 500
    assert auto_tile(5000, 5000, tiling, 4 * 516 * 516 * 1000 - 1) < 500
    assert auto_tile(5000, 5000, tiling, 0) == MIN_TILE_PX


@pytest.mark.parametrize("size", [(3000, 4000), (3648, 5472), (6144, 8192), (700, 20_000), (1, 70_000), (2, 2)])
@pytest.mark.parametrize("free_bytes", [1 << 20, 1 << 28, 1 << 40])
def test_an_automatic_tile_computes_fewer_pixels_than_other_tiles_that_fit(
    size: tuple[int, int], free_bytes: int
) -> None:
    tiling = Tiling(halo_px=21, multiple_of=2, bytes_per_px=270)
    most = min(AUTO_INPUT_PX, free_bytes // 4 // 270)
    found = plan_tiles(*size, tiling, auto_tile(*size, tiling, free_bytes))
    others = (plan_tiles(*size, tiling, side) for side in range(MIN_TILE_PX, 3000, 7))
    fitting = [plan for plan in others if math.prod(plan.input_shape) <= most]
    assert not fitting or math.prod(found.input_shape) <= most
    assert found.computed_px <= 1.03 * min((plan.computed_px for plan in fitting), default=found.computed_px)


def test_an_automatic_tile_of_a_network_with_many_features_takes_bounded_memory() -> None:
    """C-BSN takes 1280 bytes per pixel: without the limit, its tile would take 1.5 GB on a machine with much memory."""
    tiling = Tiling(halo_px=8, bytes_per_px=1280)
    tile = auto_tile(9000, 12_000, tiling, 1 << 40)
    assert 0.8 * AUTO_TILE_BYTES < tile_bytes(9000, 12_000, tiling, tile) <= AUTO_TILE_BYTES


def test_auto_computes_a_twelfth_of_a_photo_twice() -> None:
    tiling = Tiling(halo_px=21, multiple_of=2, bytes_per_px=270)
    plan = plan_tiles(3000, 4000, tiling, auto_tile(3000, 4000, tiling, 1 << 40))
    assert (plan.rows, plan.columns) == (3, 4)
    assert plan.computed_px / (3000 * 4000) < 1.095


def test_networks_that_shuffle_large_blocks_get_no_smaller_tile() -> None:
    assert auto_tile(500, 500, Tiling(halo_px=8, multiple_of=64), 0) == 64


def test_back_off_halves_until_it_is_not_worth_it() -> None:
    tiling = Tiling(halo_px=8)
    tile, tried = 512, []
    while tile >= 2 * MIN_TILE_PX:
        tile = smaller_tile(plan_tiles(2000, 2000, tiling, tile))
        tried.append(tile)
    assert tried == [250, 125, 62]
    with pytest.raises(DeviceMemoryError, match="the smallest that is tried") as caught:
        smaller_tile(plan_tiles(2000, 2000, tiling, 62))
    assert caught.value.hint


class SmallDevice(Session):
    """A session on a device that holds tiles up to a side, halo included."""

    def __init__(self, inner: CheckedSession, limit_px: int) -> None:
        self.inner, self.limit_px = inner, limit_px
        self.effective = inner.effective

    def run(self, x: np.ndarray) -> np.ndarray:
        side = max(x.shape[2:])
        if side > self.limit_px:
            raise DeviceMemoryError(f"no room for {side} px", suggested_tile=side // 2, hint=f"--tile {side // 2}")
        return self.inner.run(x)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make every session that `load` opens run out of memory above a side."""

    def limited(limit_px: int) -> None:
        def opened(bundle: Bundle, variant: Variant, **options: object) -> CheckedSession:
            return CheckedSession(SmallDevice(open_variant(bundle, variant, selftest=False), limit_px))

        monkeypatch.setattr("edgedenoise.denoiser.open_variant", opened)

    return limited


def test_out_of_memory_makes_auto_retry_smaller_with_the_same_pixels(
    committed_bundle: Path, small_device: Callable[[int], None]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    with load(committed_bundle, tile=0) as denoiser:
        whole = denoiser(picture)
    small_device(100)
    with load(committed_bundle, tile="auto") as denoiser:
        np.testing.assert_array_equal(denoiser(picture), whole)
        assert denoiser.last_tile == 65  # 260, 130, 65: the first whose input of 81 px fits


def test_a_device_that_holds_no_tile_at_all_is_told(
    committed_bundle: Path, small_device: Callable[[int], None]
) -> None:
    small_device(20)
    with load(committed_bundle, tile="auto") as denoiser, pytest.raises(DeviceMemoryError, match="smallest"):
        denoiser(np.zeros((200, 260, 3), np.uint8))


def test_a_tile_that_was_asked_for_is_not_second_guessed(
    committed_bundle: Path, small_device: Callable[[int], None]
) -> None:
    small_device(100)
    with load(committed_bundle, tile=128) as denoiser, pytest.raises(DeviceMemoryError) as caught:
        denoiser(np.zeros((200, 260, 3), np.uint8))
    assert caught.value.suggested_tile == 58  # half of a balanced tile of 100 px and its halo of 2 x 8
    assert "--tile 58" in str(caught.value)
