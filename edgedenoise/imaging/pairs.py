"""Noisy images and their ground truth, matched by name in two folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import EXTENSIONS, read_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.metrics import SSIM_MIN_SIDE

if TYPE_CHECKING:
    from pathlib import Path


def list_pairs(noisy: Path, clean: Path) -> list[tuple[Path, Path]]:
    """Return every image of `noisy` with the one of the same name in `clean`; extensions may differ.

    Raises:
        DatasetError: a folder does not exist, `noisy` has no images, or one of them has no ground truth.
    """
    images = list_comparable(noisy)
    truths = {path.stem: path for path in list_images(clean)}
    missing = [path.name for path in images if path.stem not in truths]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(images)} images in {noisy} have no ground truth: expected one of the same name in"
            f" {clean}, got none for {missing[0]}",
            hint=f"Add the missing ground truth to {clean}, or move {noisy / missing[0]} elsewhere.",
        )
    return [(path, truths[path.stem]) for path in images]


def list_comparable(folder: Path) -> list[Path]:
    """Return the images of a folder, and check that their names differ without the extensions.

    Raises:
        DatasetError: the folder does not exist or has no images, or two names differ by the extension only.
    """
    images = list_images(folder)
    if not images:
        raise DatasetError(f"{folder} holds no images: expected {', '.join(EXTENSIONS)}, got none")
    check_stems(images)
    return images


def check_stems(images: list[Path]) -> None:
    """Raise when two names differ by the extension only: their outputs would overwrite each other.

    Raises:
        DatasetError: the message names the first two.
    """
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in seen:
            raise DatasetError(
                f"two images in {path.parent} have one name: expected names that differ without the extension, got"
                f" {seen[path.stem].name} and {path.name}",
                hint=f"Rename {path} or move it elsewhere.",
            )
        seen[path.stem] = path


def check_pair(noisy: Path, clean: Path) -> tuple[int, int]:
    """Check, before any denoising, that PSNR and SSIM can be computed of a pair.

    Returns:
        (height, width) of both.

    Raises:
        DatasetError: the two differ in size, or are too small for SSIM.
        ImageError: one cannot be read.
    """
    given, truth = read_image(noisy), read_image(clean)
    if min(given.height, given.width) < SSIM_MIN_SIDE:
        raise DatasetError(
            f"{noisy} is too small for SSIM: expected at least {SSIM_MIN_SIDE}x{SSIM_MIN_SIDE} pixels, got"
            f" {given.height}x{given.width}"
        )
    if (truth.height, truth.width) != (given.height, given.width):
        raise DatasetError(
            f"{noisy} and its ground truth {clean} differ in size: expected {given.height}x{given.width}, got"
            f" {truth.height}x{truth.width}"
        )
    return given.height, given.width
