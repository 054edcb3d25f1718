"""Sets of noisy images with ground truth: real noise, camera noise of four strengths, and clean images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from harness import DATA

from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.pairs import check_pair, list_pairs
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Pair = tuple[Pixels, Pixels]
    """A noisy image and its ground truth, (H, W, 3)."""

MAIN_SETS = ("polyu_test", "sidd_dev")
"""Sets with real noise: these are plotted, and BM3D runs on crops of them."""
LEVELS_DB = (20, 26, 32, 38, 42, 45)
HELD_OUT_PHOTOS = (
    "budgie_abstract-spiral",
    "budgie_lake-sherburne",
    "budgie_the-spices-of-life",
    "lomiri_aitzgorri_by_Aitzol_Berasategi",
    "lomiri_sunset_by_Aitzol_Berasategi",
    "ukui_mountain",
)
"""Photos that trainings with `held_out=6` do not see."""
CROP_PX = 384
SCENE_DISJOINT = ("Canon600D_*", "Sony_*_toy_*", "Sony_*_waterhouse_*")
"""Crops of `polyu_test` that show no scene of `polyu_train`."""


@dataclass(frozen=True)
class ImageSet:
    """Noisy images with their ground truth."""

    name: str
    description: str
    folder: str
    """Folder of the noisy images, or of the images that noise is added to, below the data folder."""
    read: Callable[[int], list[Pair]]
    """Called with N to read every N-th pair."""


def read_pairs(folder: Path) -> list[Pair]:
    """Read the pairs of the folders `noisy` and `clean`, as 8-bit RGB.

    Raises:
        DatasetError: there are no images, or two do not match.
    """
    paths = list_pairs(folder / "noisy", folder / "clean")
    for noisy, clean in paths:
        check_pair(noisy, clean)
    return [(_eight_bit(noisy), _eight_bit(clean)) for noisy, clean in paths]


def real_pairs(folder: str, names: tuple[str, ...], every: int) -> list[Pair]:
    """Read every N-th pair of a folder whose name matches one of `names`."""
    paths = list_pairs(DATA / folder / "noisy", DATA / folder / "clean")
    pairs = zip(paths, read_pairs(DATA / folder), strict=True)
    return [pair for (path, _), pair in pairs if any(fnmatch(path.name, name) for name in names)][::every]


def kodak_pairs(target_db: int | None, every: int) -> list[Pair]:
    """Read every N-th image of Kodak24 and add noise up to a PSNR of `target_db`; None adds no noise."""
    paths = list(enumerate(list_images(DATA / "kodak24")))[::every]
    images = [(number, _eight_bit(path)) for number, path in paths]
    return [(_noisy(clean, target_db, number), clean) for number, clean in images]


def free_pairs(target_db: int | None, every: int) -> list[Pair]:
    """Read two crops of each photo of `HELD_OUT_PHOTOS`, every N-th crop, and add noise up to a PSNR of `target_db`."""
    crops = []
    for number, name in enumerate(name for name in HELD_OUT_PHOTOS for _ in range(2)):
        clean = _eight_bit(DATA / "free_photos" / f"{name}.jpg")
        top, left = ((side - CROP_PX) * (1 + number % 2) // 3 for side in clean.shape[:2])
        crops.append(clean[top : top + CROP_PX, left : left + CROP_PX])
    return _with_noise(crops, target_db, every)


def polyu_mean_pairs(target_db: int | None, every: int) -> list[Pair]:
    """Read every ninth mean of `polyu_test`, of these every N-th, and add noise up to a PSNR of `target_db`."""
    means = [_eight_bit(path) for path in list_images(DATA / "polyu_test" / "clean")[2::9]]
    return _with_noise(means, target_db, every)


def _with_noise(images: list[Pixels], target_db: int | None, every: int) -> list[Pair]:
    """Return every N-th image with camera noise, every other one as JPEG; the noise is seeded by the image's number.

    For an even N, every second image is one later, because otherwise none would be a JPEG.
    """
    pairs = []
    for place, first in enumerate(range(0, len(images), every)):
        number = min(first + (place % 2 if every % 2 == 0 else 0), len(images) - 1)
        clean = images[number]
        pairs.append((_noisy(clean, target_db, number, jpeg=bool(number % 2)), clean))
    return pairs


def _noisy(clean: Pixels, target_db: int | None, number: int, *, jpeg: bool = False) -> Pixels:
    """Return an image with noise up to a PSNR, seeded by the target and a number; the image itself for None."""
    if target_db is None:
        return clean
    rng = np.random.default_rng([target_db, number])
    parameters = parameters_for_psnr(clean, target_db, rng, jpeg=jpeg)
    return from_unit(add_camera_noise(clean, parameters, rng), np.uint8)


def _eight_bit(path: Path) -> Pixels:
    return from_unit(read_image(path).unit(), np.uint8)


def _kodak(target_db: int) -> ImageSet:
    description = f"Kodak24 with camera noise of {target_db} dB"
    return ImageSet(f"kodak24_{target_db}", description, "kodak24", partial(kodak_pairs, target_db))


def _noise_sets(name: str, what: str, folder: str, read: Callable[[int | None, int], list[Pair]]) -> list[ImageSet]:
    levels = [
        ImageSet(f"{name}_{target_db}", f"{what} with camera noise of {target_db} dB", folder, partial(read, target_db))
        for target_db in LEVELS_DB
    ]
    return [*levels, ImageSet(f"{name}_clean", f"{what} without noise", folder, partial(read, None))]


def _real(name: str, description: str, folder: str, names: tuple[str, ...] = ("*",)) -> ImageSet:
    return ImageSet(name, description, f"{folder}/noisy", partial(real_pairs, folder, names))


SETS = {
    one.name: one
    for one in (
        _real("polyu_test", "published crops of PolyU", "polyu_test"),
        _real("polyu_disjoint", "crops of scenes that are not in polyu_train", "polyu_test", SCENE_DISJOINT),
        _real("sidd_dev", "blocks of one smartphone scene", "sidd_dev"),
        *(_kodak(target_db) for target_db in (20, 26, 32, 38)),
        ImageSet("kodak24_clean", "Kodak24 without noise", "kodak24", partial(kodak_pairs, None)),
        *_noise_sets("free", "crops of free photos", "free_photos", free_pairs),
        *_noise_sets("polyu_means", "means of PolyU", "polyu_test/clean", polyu_mean_pairs),
    )
}

HARM_SETS = tuple(name for name in SETS if name.startswith(("free_", "polyu_means_")))
"""Synthetic noise from strong to weak on held-out images: a network must not make these worse."""


def chosen_sets(names: str) -> list[ImageSet]:
    """Convert a command-line argument, names separated by commas, to sets."""
    unknown = [name for name in names.split(",") if name not in SETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no set {unknown[0]!r}; expected some of {', '.join(SETS)}")
    return [SETS[name] for name in dict.fromkeys(names.split(","))]
