"""Noisy images and their ground truth: two folders, matched by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import list_images, read_image
from edgedenoise.imaging.metrics import SSIM_MIN_SIDE

if TYPE_CHECKING:
    from pathlib import Path


def list_pairs(noisy: Path, clean: Path) -> list[tuple[Path, Path]]:
    """Return every image of `noisy` with the one of the same name (endings may differ) in `clean`.

    Raises:
        DatasetError: a folder does not exist, `noisy` holds no images, or one of them has no ground truth.
    """
    photographs = list_comparable(noisy)
    truths = {path.stem: path for path in list_images(clean)}
    missing = [path.name for path in photographs if path.stem not in truths]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(photographs)} images in {noisy} have no ground truth of the same name in"
            f" {clean}; the first is {missing[0]}"
        )
    return [(path, truths[path.stem]) for path in photographs]


def list_comparable(folder: Path) -> list[Path]:
    """Return the images of a folder, after making sure that their names can be told apart without endings.

    Raises:
        DatasetError: the folder does not exist or holds no images, or two names differ by their ending only.
    """
    photographs = list_images(folder)
    if not photographs:
        raise DatasetError(f"{folder} holds no images to compare on")
    check_stems(photographs)
    return photographs


def check_stems(photographs: list[Path]) -> None:
    """Refuse images whose names differ by their ending only: what is made of them would overwrite itself.

    Raises:
        DatasetError: naming the first two.
    """
    seen: dict[str, Path] = {}
    for path in photographs:
        if path.stem in seen:
            raise DatasetError(
                f"{seen[path.stem].name} and {path.name} in {path.parent} differ by their ending only, and their"
                " answers would overwrite each other",
                hint="rename or move one of them",
            )
        seen[path.stem] = path


def check_pair(noisy: Path, clean: Path) -> tuple[int, int]:
    """Refuse a pair that PSNR and SSIM cannot be told of, now rather than after minutes of denoising.

    Returns:
        (height, width) of both.

    Raises:
        DatasetError: the two differ in size, or are too small for SSIM.
        ImageError: one cannot be read.
    """
    given, truth = read_image(noisy), read_image(clean)
    if min(given.height, given.width) < SSIM_MIN_SIDE:
        raise DatasetError(
            f"{noisy} is {given.height}x{given.width}; SSIM needs at least {SSIM_MIN_SIDE}x{SSIM_MIN_SIDE}"
        )
    if (truth.height, truth.width) != (given.height, given.width):
        raise DatasetError(
            f"{noisy} is {given.height}x{given.width} and its ground truth {clean} is"
            f" {truth.height}x{truth.width}; they must be equal"
        )
    return given.height, given.width
