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
    pairs = []
    for number, path in list(enumerate(list_images(DATA / "kodak24")))[::every]:
        clean = _eight_bit(path)
        noisy = clean
        if target_db is not None:
            rng = np.random.default_rng([target_db, number])
            parameters = parameters_for_psnr(clean, target_db, rng)
            noisy = from_unit(add_camera_noise(clean, parameters, rng), np.uint8)
        pairs.append((noisy, clean))
    return pairs


def _eight_bit(path: Path) -> Pixels:
    return from_unit(read_image(path).unit(), np.uint8)


def _kodak(target_db: int) -> ImageSet:
    description = f"Kodak24 with camera noise of {target_db} dB"
    return ImageSet(f"kodak24_{target_db}", description, "kodak24", partial(kodak_pairs, target_db))


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
    )
}


def chosen_sets(names: str) -> list[ImageSet]:
    """Convert a command-line argument, names separated by commas, to sets."""
    unknown = [name for name in names.split(",") if name not in SETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no set {unknown[0]!r}; expected some of {', '.join(SETS)}")
    return [SETS[name] for name in dict.fromkeys(names.split(","))]
