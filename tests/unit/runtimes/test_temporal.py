"""Videos: less flicker by smoothed statistics, and blocks that are reused exactly where nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from images import clean_image

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import Denoiser, load_variant
from edgedenoise.imaging.normalize import WHOLE_IMAGE, Normalization
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.noise.level import NoiseCurve
from edgedenoise.runtimes.reuse import AVERAGED_FRAMES, BLOCK_PX, BlockReuse
from edgedenoise.runtimes.smoothing import Smoothing
from edgedenoise.runtimes.stored_image import StoredImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIGMA = 0.04
CURVE = NoiseCurve.constant(SIGMA)
TILING = Tiling(halo_px=3)


@pytest.fixture(scope="module")
def denoiser(committed_bundle: Path) -> Iterator[Denoiser]:
    """A C-BSN with whole-image normalization."""
    with load_variant(Bundle.open(committed_bundle), "onnx-fp32", selftest=False) as opened:
        yield opened


def scene(side: int = 192) -> np.ndarray:
    return np.float32(clean_image(5, side) * 0.8 + 0.1)


def noisy(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(clean + rng.normal(0, SIGMA, clean.shape), np.float32)


def box_filter(pixels: np.ndarray) -> np.ndarray:
    """A network with a halo of three pixels: means over 7 x 7, mirrored at the borders."""
    padded = np.pad(pixels, [(3, 3), (3, 3), (0, 0)], mode="reflect")
    height, width = pixels.shape[:2]
    return np.float32(sum(padded[y : y + height, x : x + width] for y in range(7) for x in range(7)) / 49)


def filtered(reuse: BlockReuse, frame: np.ndarray) -> np.ndarray:
    """The output for a frame of a network that is a box filter."""
    return reuse(frame, CURVE, lambda rows, columns: box_filter(frame[rows, columns]))


# ---------------------------------------------------------------- statistics


def flashing(count: int) -> Iterator[np.ndarray]:
    """A scene that stands still, with a lamp that goes on and off."""
    rng = np.random.default_rng(0)
    for number in range(count):
        clean = scene()
        if number // 3 % 2:
            clean[10:22, 10:22] = 1
        yield noisy(clean, rng)


def test_smoothed_statistics_flicker_less() -> None:
    smoothing = Smoothing()
    frames = [StoredImage.of(frame) for frame in flashing(30)]
    plain = [frame.statistics(WHOLE_IMAGE) for frame in frames]
    smooth = [smoothing.statistics(frame, WHOLE_IMAGE) for frame in frames]
    for name in ("mean", "std"):
        before, after = (np.var([getattr(s, name) for s in found[8:]], axis=0) for found in (plain, smooth))
        assert (after < before / 2).all(), (name, before, after)


def test_no_value_exceeds_the_limit_of_bounded_normalization() -> None:
    limit = Normalization("whole-image-bounded", 3.0)
    smoothing = Smoothing()
    for frame in flashing(12):
        stats = smoothing.statistics(StoredImage.of(frame), limit)
        assert np.abs(stats.apply(frame.transpose(2, 0, 1))).max() <= 3.0 * (1 + 1e-5)


def test_statistics_begin_anew_with_a_new_scene() -> None:
    smoothing = Smoothing()
    rng = np.random.default_rng(0)
    for _ in range(5):
        smoothing.statistics(StoredImage.of(noisy(scene(), rng)), WHOLE_IMAGE)
    other = StoredImage.of(noisy(scene() * 0.3, rng))
    np.testing.assert_array_equal(smoothing.statistics(other, WHOLE_IMAGE).mean, other.statistics(WHOLE_IMAGE).mean)


def test_the_noise_level_is_smoothed() -> None:
    rng = np.random.default_rng(0)
    estimates = [NoiseCurve.constant(SIGMA * factor) for factor in rng.normal(1, 0.1, 40)]
    smoothing = Smoothing()
    after = [smoothing.curve(curve).sigma[0] for curve in estimates]
    before = [curve.sigma[0] for curve in estimates]
    assert np.var(after[8:]) < np.var(before[8:]) / 5
    assert np.mean(after) == pytest.approx(SIGMA, rel=0.05)


def test_a_network_flickers_less_over_time(denoiser: Denoiser) -> None:
    """The noise is the same in all frames, so what changes where nothing moves is flicker."""
    still = noisy(scene(96), np.random.default_rng(0))
    frames = [still.copy() for _ in range(14)]
    for number, frame in enumerate(frames):
        frame[:6, :6] = number % 2

    def flicker(smooth: bool) -> float:
        """Variance over time of the pixels of the part that stands still."""
        denoise = denoiser.for_video(smooth=smooth)
        return float(np.var([denoise(frame)[48:] for frame in frames][6:], axis=0).mean())

    assert flicker(smooth=True) < flicker(smooth=False) / 4


def test_a_single_frame_is_the_same_as_an_image(denoiser: Denoiser) -> None:
    frame = noisy(scene(96), np.random.default_rng(0))
    np.testing.assert_array_equal(denoiser.for_video()(frame), denoiser(frame))


# ---------------------------------------------------------------- reuse


def test_a_still_scene_is_averaged_and_then_costs_nothing() -> None:
    rng, reuse = np.random.default_rng(0), BlockReuse(TILING)
    clean = scene()
    answers: list[np.ndarray] = []
    costs = [0] * (AVERAGED_FRAMES + 4)
    for number in range(len(costs)):
        frame = noisy(clean, rng)

        def run(rows: slice, columns: slice, frame: np.ndarray = frame, number: int = number) -> np.ndarray:
            part = frame[rows, columns]
            costs[number] += part.shape[0] * part.shape[1]
            return box_filter(part)

        answers.append(reuse(frame, CURVE, run))
    assert costs[:AVERAGED_FRAMES] == [clean.shape[0] * clean.shape[1]] * AVERAGED_FRAMES
    assert costs[AVERAGED_FRAMES:] == [0] * 4
    np.testing.assert_array_equal(answers[-1], answers[-2])
    first, last = (np.square(answer - box_filter(clean)).mean() for answer in (answers[0], answers[-1]))
    assert last < first / 5  # an eighth, but for rounding


def test_what_moves_is_exactly_what_it_is_without_reuse() -> None:
    rng, reuse = np.random.default_rng(0), BlockReuse(TILING)
    for number in range(AVERAGED_FRAMES + 8):
        clean = scene(5 * BLOCK_PX)
        left = 10 + 3 * number
        clean[20:40, left : left + 20] = (0.9, 0.2, 0.1)
        frame = noisy(clean, rng)
        seen = np.s_[20 - 3 : 40 + 3, left - 3 : left + 23]  # all that depends on the object
        np.testing.assert_array_equal(filtered(reuse, frame)[seen], box_filter(frame)[seen])
    assert reuse.computed_share < 0.5


def test_a_pan_is_computed_as_a_whole() -> None:
    rng, reuse = np.random.default_rng(0), BlockReuse(TILING)
    wide = scene(256)
    for number in range(6):
        frame = noisy(wide[4 * number : 4 * number + 160, 5 * number : 5 * number + 200], rng)
        np.testing.assert_array_equal(filtered(reuse, frame), box_filter(frame))


def test_a_texture_that_moves_without_changing_its_mean_is_seen() -> None:
    rng, reuse = np.random.default_rng(0), BlockReuse(TILING)
    stripes = np.float32(0.5 + 0.2 * (np.arange(192) % 8 < 4))[None, :, None] * np.ones((192, 1, 3), np.float32)
    for number in range(4):
        frame = noisy(np.roll(stripes, 2 * number, axis=1), rng)
        np.testing.assert_array_equal(filtered(reuse, frame), box_filter(frame))


def test_a_slow_change_of_light_comes_through() -> None:
    rng, reuse = np.random.default_rng(0), BlockReuse(TILING)
    for number in range(60):
        clean = scene() * (1 - 0.003 * number)
        answer = filtered(reuse, noisy(clean, rng))
    assert abs(float((answer - box_filter(clean)).mean())) < 0.01


def test_another_size_begins_anew() -> None:
    reuse = BlockReuse(TILING)
    for side in (128, 96):
        np.testing.assert_array_equal(filtered(reuse, scene(side)), box_filter(scene(side)))


def test_parts_have_the_pixels_of_the_whole(denoiser: Denoiser) -> None:
    """On a real network: an object moves, and its surroundings are those of a denoiser without reuse."""
    rng = np.random.default_rng(0)
    plain, reusing = denoiser.for_video(smooth=True), denoiser.for_video(smooth=True, reuse=True)
    for number in range(4):
        clean = scene(200)
        clean[8:28, 8 + 4 * number : 28 + 4 * number] = (0.9, 0.2, 0.1)
        frame = noisy(clean, rng)
        expected, answer = plain(frame), reusing(frame)
        np.testing.assert_array_equal(answer[:40, :60], expected[:40, :60])
    assert not np.array_equal(answer, expected)  # elsewhere outputs are averaged


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("kind", ["array", "image", "pil"])
def test_a_stream_gives_back_the_type_of_its_frames(denoiser: Denoiser, kind: str) -> None:
    from PIL import Image as PILImage

    from edgedenoise.imaging.image import Image

    make: dict[str, Callable[[np.ndarray], Any]] = {"array": np.asarray, "image": Image, "pil": PILImage.fromarray}
    frame = np.uint8(scene(64) * 255)
    with denoiser.stream([make[kind](frame)] * 3, policy="block", similarity=0.9) as stream:
        results = list(stream)
    assert [type(result.image) for result in results] == [type(make[kind](frame))] * 3
    assert [result.is_repeated for result in results] == [False, True, True]
    np.testing.assert_array_equal(np.asarray(getattr(results[0].image, "pixels", results[0].image)), denoiser(frame))
