"""A file that accepts some sizes only denoises any image, to the very pixels of one that accepts all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.errors import InferenceError
from edgedenoise.imaging.tiling import Tiling, largest_tile
from edgedenoise.runtimes.base import EffectiveDevice, Session, SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.shapes import accepted_side

if TYPE_CHECKING:
    from pathlib import Path


FIXED = InputShapes("fixed", [96])
ENUMERATED = InputShapes("enumerated", [64, 96, 160])
RANGED = InputShapes("ranged", [64, 96, 160])


class Picky(Session):
    """A backend that runs nothing but the sizes that it was built for."""

    def __init__(self, inner: Session, shapes: InputShapes) -> None:
        self.inner = inner
        self.shapes = shapes
        self.given: list[int] = []
        self.effective = EffectiveDevice("picky", "1", "cpu")

    def run(self, x: np.ndarray) -> np.ndarray:
        height, width = x.shape[2:]
        assert height == width
        assert height in self.shapes.sides_px
        self.given.append(height)
        return self.inner.run(x)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def opened(bundle: Bundle) -> Session:
    variant = bundle.variant("onnx-fp32")
    return registry["onnxruntime"].open(variant, bundle.model_files(variant), "cpu", SessionOptions(threads=1))


@pytest.mark.parametrize("shapes", [FIXED, ENUMERATED, RANGED], ids=lambda s: s.kind)
@pytest.mark.parametrize("size", [(1, 1), (20, 30), (61, 128), (150, 97)], ids=str)
@pytest.mark.parametrize("tile", [0, 32, 1000])
def test_any_picture_comes_back_as_from_a_file_that_accepts_all(
    bundle: Bundle, shapes: InputShapes, size: tuple[int, int], tile: int
) -> None:
    manifest = bundle.manifest
    pixels = np.random.default_rng(0).random((3, *size), np.float32)
    with CheckedSession(opened(bundle)) as free:
        expected = run_image(free, pixels, manifest.input_normalization, manifest.tiling)
    picky = Picky(opened(bundle), shapes)
    with CheckedSession(picky, shapes) as session:
        found = run_image(session, pixels, manifest.input_normalization, manifest.tiling, tile=tile)
    np.testing.assert_array_equal(found, expected)
    assert picky.given


def test_the_least_size_that_holds_a_tile_is_used() -> None:
    assert [accepted_side(ENUMERATED, px) for px in (1, 64, 65, 96, 97, 160)] == [64, 64, 96, 96, 160, 160]
    # A ranged file was tuned for its best side: that one is used while it is large enough.
    assert [accepted_side(RANGED, px) for px in (1, 64, 97)] == [96, 96, 160]


def test_a_tile_that_is_too_large_is_refused_with_what_to_do() -> None:
    with pytest.raises(InferenceError, match=r"a tile has 161 pixels; expected at most 160") as told:
        accepted_side(ENUMERATED, 161)
    assert "--tile" in str(told.value)


def test_tiles_are_cut_to_what_the_file_accepts_margins_included() -> None:
    tiling = Tiling(halo_px=17, multiple_of=2)
    assert largest_tile(512, tiling, 0) == 476
    assert largest_tile(512, tiling, 1000) == 476
    assert largest_tile(512, tiling, 100) == 100


def test_one_array_is_cut_back_to_its_own_size(bundle: Bundle) -> None:
    x = np.random.default_rng(0).random((1, 3, 33, 50), np.float32)
    with CheckedSession(Picky(opened(bundle), FIXED), FIXED) as session:
        assert session.largest_px == 96
        assert session.run(x).shape == x.shape
