"""Noisy images for training `LevelEstimator`, and images with other noise for choosing between trainings.

Half of the training images get noise as a camera's processing leaves it: filtered after the camera noise was added, the
colours more than the gray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from edgedenoise.datacheck.check import list_training_images
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.noise.development import through_jpeg
from edgedenoise.training.config.config import SupervisedConfig, TrainConfig
from edgedenoise.training.data.patches import ImageFolder, split_held_out
from edgedenoise.training.objectives.noisy_patches import draw_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Float = NDArray[np.float32]
    Pair = tuple[Float, Float]
    """A noisy image and its ground truth, (H, W, 3) in [0, 1]."""

SIDES = (256, 384, 320, 480)
"""Sides of whole images in pixels; blocks are learned on the first."""
FILTERED_SHARE = 0.5
GRAY_PX, COLOUR_PX = (0.35, 1.4), (0.7, 2.5)
"""Ranges of the Gaussian filters of a camera, as standard deviations in pixels."""
JPEG_SHARE = 0.5
JPEG_QUALITY = (75, 98)
CHROMA_HALVED_SHARE = 0.7
CONTRAST_PX = 3.0
"""Standard deviation of the window of `local_contrast`."""


def camera_config(clean: Path) -> SupervisedConfig:
    """Return the settings of the camera noise, from none to more than a camera's highest ISO."""
    config = TrainConfig.named("edge-full-range").with_overrides(
        [f"clean={clean}", "out=x", "noise_power=0.9", "noise_high=1.15", "jpeg_share=0", "weak_share=0.15",
         "coarse_share=0.6", "coarse_high=1.2"]
    )  # fmt: skip
    if not isinstance(config, SupervisedConfig):
        raise TypeError(f"expected a config with clean images, got {type(config).__name__}")
    return config


def split_photos(clean: Path, held_out: int, choosing: int) -> tuple[ImageFolder, ImageFolder]:
    """Return photos to learn from, and others for choosing between trainings.

    Args:
        clean: folder of clean photos.
        held_out: number of photos that neither contains; they are for the final measurement.
        choosing: number of photos for choosing; 0 chooses on the photos that are learned from.
    """
    used, _ = split_held_out(list_training_images(clean), held_out)
    learned, chosen = split_held_out(used, choosing)
    return (
        ImageFolder(clean, patch=max(SIDES), paths=learned),
        ImageFolder(clean, patch=max(SIDES), paths=chosen or learned),
    )


def filtered(noisy: Float, clean: Float, random: np.random.Generator) -> Float:
    """Return an image whose noise is filtered as cameras do, the colours more than the gray, and 0.3 to 1 as strong."""
    error = noisy - clean
    gray = error.mean(axis=2, keepdims=True)
    smooth = blurred(gray, random.uniform(*GRAY_PX)) + blurred(error - gray, random.uniform(*COLOUR_PX))
    energy = float(np.mean(np.square(smooth))) / max(float(np.mean(np.square(error))), 1e-12)
    return np.asarray(clean + smooth * np.float32(random.uniform(0.3, 1) / np.sqrt(max(energy, 1e-6))), np.float32)


def blurred(values: Float, deviation_px: float) -> Float:
    """Return (H, W, C) after a Gaussian filter that continues at the opposite edge."""
    rows, columns = values.shape[:2]
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    gain = np.exp(-2 * np.square(np.pi * deviation_px * frequency))[..., None]
    spectrum = np.fft.rfft2(values, axes=(0, 1)) * gain
    return np.asarray(np.fft.irfft2(spectrum, values.shape[:2], axes=(0, 1)), np.float32)


def local_contrast(clean: Float) -> Float:
    """Return the standard deviation of the gray values around every pixel: (H, W, 1)."""
    gray = clean.mean(axis=2, keepdims=True)
    mean = blurred(gray, CONTRAST_PX)
    return np.sqrt(np.maximum(blurred(np.square(gray), CONTRAST_PX) - np.square(mean), 0))


def training_images(
    photos: ImageFolder, config: SupervisedConfig, count: int, seed: int, sides: tuple[int, ...] = SIDES
) -> Iterator[Pair]:
    """Yield images with every kind of noise that the estimator learns."""

    def developed(noisy: Float, clean: Float, random: np.random.Generator) -> Pair:
        if random.random() < FILTERED_SHARE:
            noisy = filtered(noisy, clean, random)
        quality = int(random.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)) if random.random() < JPEG_SHARE else None
        return _eight_bit(noisy, quality, chroma_halved=bool(random.random() < CHROMA_HALVED_SHARE)), clean

    return _images(photos, config, count, [seed, 0], sides, developed)


def choosing_images(photos: ImageFolder, config: SupervisedConfig, count: int, seed: int) -> Iterator[Pair]:
    """Yield images with kinds of noise that `training_images` does not contain.

    In turns: camera noise filtered along rows only, camera noise in an image that was halved afterwards, and a median
    of 3x3 pixels in smooth places. Half of them are JPEG of low quality.
    """
    numbers = iter(range(count))

    def developed(noisy: Float, clean: Float, random: np.random.Generator) -> Pair:
        kind = next(numbers) % 3
        if kind == 0:
            length = int(random.integers(2, 7))
            error = noisy - clean
            moved = np.mean([np.roll(error, step, axis=1) for step in range(length)], axis=0)
            noisy = clean + moved * np.float32(np.sqrt(length) * random.uniform(0.5, 1))
        elif kind == 1:
            noisy, clean = (_halved(one) for one in (noisy, clean))
        else:
            image = Image.fromarray(from_unit(np.clip(noisy, 0, 1), np.uint8))
            median = np.asarray(image.filter(ImageFilter.MedianFilter(3)), np.float32)
            contrast = local_contrast(clean) * np.float32(255)
            smooth = 1 / (1 + np.square(contrast / 6))
            noisy = noisy + smooth * (median / 255 - noisy)
        quality = int(random.integers(60, 75)) if random.random() < 0.5 else None
        return _eight_bit(np.asarray(noisy, np.float32), quality, chroma_halved=True), clean

    return _images(photos, config, count, [seed, 1], (384, 480), developed)


def _images(
    photos: ImageFolder,
    config: SupervisedConfig,
    count: int,
    seed: list[int],
    sides: tuple[int, ...],
    developed: Callable[[Float, Float, np.random.Generator], Pair],
) -> Iterator[Pair]:
    for number in range(count):
        random = np.random.default_rng([*seed, number])
        tile = draw_tile(photos, config, random, side=sides[number % len(sides)], has_level=False)
        yield developed(tile.noisy, tile.clean, random)


def _halved(unit: Float) -> Float:
    height, width = (side // 2 for side in unit.shape[:2])
    cells = unit[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)


def _eight_bit(unit: NDArray[Any], quality: int | None, *, chroma_halved: bool) -> Float:
    levels = from_unit(np.clip(unit, 0, 1), np.uint8)
    return to_unit(levels if quality is None else through_jpeg(levels, quality, chroma_halved=chroma_halved))
