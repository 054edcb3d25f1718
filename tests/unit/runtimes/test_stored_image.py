"""An image that is read by rows is denoised to the same pixels as an array, within bounded memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import load
from edgedenoise.errors import DeviceMemoryError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE, Normalization
from edgedenoise.imaging.pixel_rows import PixelRows
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.base import EffectiveDevice, Session
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.stored_image import ImageRun, StoredImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

NORMALIZATIONS = [UNIT, WHOLE_IMAGE, Normalization("whole-image-bounded", 4.0)]


def image(height: int = 203, width: int = 170, dtype: str = "uint8", channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), endpoint=True).astype(dtype)


def decoded(array: NDArray[Any]) -> PixelRows:
    """Return the rows of an array as a decoder yields them: each band is a new array."""

    def start(rows: int) -> Iterator[NDArray[Any]]:
        for top in range(0, len(array), rows):
            yield array[top : top + rows].copy()

    return replace(PixelRows.of(array), start=start, in_memory=False)


class Network(Session):
    """Adds the mean of 9x9 pixels; with a limit on the tiles that it holds, from a number of calls on."""

    effective = EffectiveDevice("test", "1", "cpu")

    def __init__(self, limit_px: int | None = None, from_call: int = 0) -> None:
        self.limit_px, self.from_call, self.calls = limit_px, from_call, 0

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls += 1
        if self.limit_px is not None and self.calls > self.from_call and max(x.shape[2:]) > self.limit_px:
            raise DeviceMemoryError("no memory left")
        padded = np.pad(x[0, :3], ((0, 0), (4, 4), (4, 4)))
        shifted = [padded[:, i : i + x.shape[2], j : j + x.shape[3]] for i in range(9) for j in range(9)]
        return np.asarray(x[:, :3] * np.float32(0.5) + sum(shifted)[None] / np.float32(162), np.float32)


TILING = Tiling(halo_px=4, multiple_of=2)


def bands_of(stored: StoredImage, tile: int, kind: Normalization = UNIT, network: Session | None = None) -> np.ndarray:
    with CheckedSession(network or Network()) as session:
        run = ImageRun(stored, session, TILING, stored.statistics(kind))
        return np.concatenate(list(run.bands(tile, lambda _, tile: tile // 2)))


@pytest.mark.parametrize("kind", NORMALIZATIONS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint16", 3), ("uint8", 1)])
def test_rows_give_the_pixels_of_the_whole_image(kind: Normalization, dtype: str, channels: int) -> None:
    array = image(dtype=dtype, channels=channels)
    whole = bands_of(StoredImage.of(array), 0, kind)
    assert whole.dtype == array.dtype
    assert not np.array_equal(whole, array)
    for tile in (32, 50, 100):
        np.testing.assert_array_equal(bands_of(StoredImage(decoded(array)), tile, kind), whole)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (9, 40), (65, 33)], ids=str)
def test_rows_of_small_images_are_mirrored_as_those_of_the_whole(size: tuple[int, int]) -> None:
    array = image(*size)
    whole = bands_of(StoredImage.of(array), 0)
    np.testing.assert_array_equal(bands_of(StoredImage(decoded(array)), 32), whole)


@pytest.mark.parametrize("from_call", range(0, 12, 2))
def test_out_of_memory_in_the_middle_goes_on_with_smaller_tiles(from_call: int) -> None:
    array = image(240, 170)
    whole = bands_of(StoredImage.of(array), 0)
    network = Network(limit_px=50, from_call=from_call)
    np.testing.assert_array_equal(bands_of(StoredImage(decoded(array)), 64, network=network), whole)
    assert network.calls > 12


def test_gray_is_found_in_any_row() -> None:
    gray = image(channels=1).repeat(3, axis=2)
    assert StoredImage(decoded(gray)).is_gray
    found = bands_of(StoredImage(decoded(gray)), 64)
    assert (found == found[..., :1]).all()
    gray[-1, -1, 2] ^= 1
    assert not StoredImage(decoded(gray)).is_gray


def test_hidden_pixels_come_back_and_do_not_reach_visible_ones(committed_bundle: Path) -> None:
    array, alpha = image(), np.full((203, 170), 255, np.uint8)
    alpha[60:, 50:120] = 0
    other = array.copy()
    other[alpha == 0] = 255
    with load(committed_bundle, tile=64) as denoiser:
        first, second = (denoiser(Image(pixels, alpha)).pixels for pixels in (array, other))
        np.testing.assert_array_equal(first[alpha > 0], second[alpha > 0])
        np.testing.assert_array_equal(first[alpha == 0], array[alpha == 0])
    with load(committed_bundle, strength=0) as denoiser:
        np.testing.assert_array_equal(denoiser(Image(array, alpha)).pixels, array)


def test_c_bsn_by_rows_is_the_whole_image(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    array, manifest = image(dtype="uint16"), bundle.manifest
    with open_variant(bundle, bundle.variant("onnx-fp32"), selftest=False) as session:

        def run(stored: StoredImage, tile: int) -> np.ndarray:
            stats = stored.statistics(manifest.input_normalization)
            return np.concatenate(list(ImageRun(stored, session, manifest.tiling, stats).bands(tile)))

        np.testing.assert_array_equal(run(StoredImage(decoded(array)), 64), run(StoredImage.of(array), 0))


def test_a_call_takes_the_memory_of_one_output_and_some_tiles(committed_bundle: Path) -> None:
    array = image(1500, 1200)
    with load(committed_bundle, tile=128) as denoiser:
        denoiser(array[:64, :64])
        tracemalloc.start()
        denoiser(array)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2.5 * array.nbytes, "the output, and a band of floats"
