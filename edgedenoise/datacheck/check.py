"""Check whether a denoiser can be trained on a folder of images.

Training needs images as noisy as the camera made them. Without noise there is nothing to learn, and resizing or
denoising changes the correlation that sub-sampling must undo. Every image is judged by itself (`signs.py`), from crops
at full resolution. A doubtful image is named in a warning, and the folder is refused when most are doubtful. For the
origin of the limits and what cannot be detected, see docs/concepts/data-check.md.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from edgedenoise.datacheck.report import DataReport, Finding, ImageSummary, NoiseAt, Size, data_report_text
from edgedenoise.datacheck.signs import FAINT, FAINT_ALONE, INDEPENDENT, editing_in_exif, faintness, signs_of
from edgedenoise.datacheck.traces import PERIODS, find_traces, profile_spectrum
from edgedenoise.errors import DatasetError, ImageError
from edgedenoise.imaging.files import EXTENSIONS, read_image, to_unit
from edgedenoise.imaging.folders import list_images
from edgedenoise.noise.blocks import BLOCK_PX
from edgedenoise.noise.estimation import NoiseEstimate, estimate_noise
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from edgedenoise.imaging.image import Image

__all__ = [
    "DataReport",
    "Finding",
    "check_images",
    "data_report_text",
    "list_training_images",
    "read_training_image",
]

MOST_JUDGED: Final = 200
"""Largest number of images that are judged; of a larger folder, evenly spread ones."""
ENOUGH_MEGAPIXELS: Final = 20.0
"""Size of a folder below which the report warns."""
LARGEST_STRIDE: Final = 6
"""Largest sub-sampling stride in pixels that is recommended."""
NEARLY_INDEPENDENT: Final = 0.03
"""Correlation of the noise below which pixels count as independent."""

_CROP_PX = 720  # four of them, two megapixels, are judged per image
_MUCH_CLIPPED = 0.05

# A refusal needs more evidence than chance gives; docs/concepts/data-check.md has the measurements.
_FAINT_CHANCE = FAINT_ALONE - FAINT  # for one image; divided by the square root of the number of images
_MOST = 0.6
_FEW = 4  # of fewer images, all must be doubtful
_POOLED_PX = 240**2  # number of pixels in which small images show traces together


class _Judged(NamedTuple):
    """Measurements of one image."""

    summary: ImageSummary
    pixels_sha256: str
    noise: NoiseEstimate | None
    spectrum: NDArray[np.float64] | None
    """Spectrum that is searched for traces; None where the image is too small."""
    maker: str
    edited: str | None
    """Evidence of editing in its EXIF, if any."""


def check_images(folder: Path | str, *, progress: Progress = silent) -> DataReport:
    """Check the images of a folder before a denoiser is trained on them.

    Images are decoded one after another, and about two megapixels of each are judged, never resized.

    Args:
        folder: folder that directly contains the images.
        progress: called after each image.

    Returns:
        Properties of the folder, warnings, and `refusals` where it cannot be trained on.

    Raises:
        DatasetError: the folder does not exist or holds no images, one of them cannot be read, or all are too small.
    """
    folder = Path(folder)
    paths = list_training_images(folder)
    chosen = [paths[i * len(paths) // MOST_JUDGED] for i in range(MOST_JUDGED)] if len(paths) > MOST_JUDGED else paths
    judged = []
    for index, path in enumerate(chosen):
        progress("check images", index, len(chosen), path.name)
        judged.append(_judge(path.name, read_training_image(folder, path)))
    progress("check images", len(chosen), len(chosen))
    if all(one.noise is None for one in judged):
        raise DatasetError(
            f"{folder} cannot be trained on: expected images of at least {BLOCK_PX} pixels on each side, got only"
            " smaller ones",
            hint=f"Put images into {folder} as the camera wrote them, at full size.",
        )
    return _report(folder, len(paths), _with_signs(judged))


def list_training_images(folder: Path | str) -> list[Path]:
    """Return the images directly in `folder`, sorted by name.

    Raises:
        DatasetError: the folder does not exist, or holds no images.
    """
    folder = Path(folder)
    paths = list_images(folder)
    if not paths:
        raise DatasetError(
            f"{folder} holds no images: expected {', '.join(EXTENSIONS)}, got {_contents(folder)}",
            hint="Name the folder that directly contains the images; subfolders are not searched.",
        )
    return paths


def read_training_image(folder: Path, path: Path) -> Image:
    """Read one image of a folder for training.

    Raises:
        DatasetError: the image cannot be read; the message names folder and image.
    """
    try:
        return read_image(path)
    except ImageError as error:
        raise DatasetError(
            f"{folder} cannot be trained on: {error.message}",
            hint=f"Replace {path} or move it out of the folder. {error.hint or ''}".rstrip(),
        ) from error


# ---------------------------------------------------------------- one image


def _judge(name: str, image: Image) -> _Judged:
    """Measure one image without its signs; its pixels are not kept."""
    pixels = np.ascontiguousarray(image.pixels)
    maker, edited = editing_in_exif(image)
    noise = spectrum = None
    if min(image.height, image.width) >= BLOCK_PX:
        crops = [to_unit(crop) for crop in _crops(pixels)]
        seamless = [crop[: len(crop) // BLOCK_PX * BLOCK_PX] for crop in crops]  # so that no block crosses a seam
        noise = estimate_noise(np.concatenate(seamless))
        spectrum = profile_spectrum([crop * np.float32(255) for crop in crops])
    summary = ImageSummary(
        name,
        image.width,
        image.height,
        image.bits,
        image.channels,
        None if noise is None else noise.sigma,
        None if noise is None else noise.clipped_share,
    )
    return _Judged(summary, image.pixels_sha256, noise, spectrum, maker, edited)


def _crops(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return a small image whole, or crops of at most 720 pixels from the quarters of a large one, (H, W, C) each."""
    height, width = pixels.shape[:2]
    if height * width <= 4 * _CROP_PX**2:
        return [pixels]

    def starts(length: int) -> list[int]:
        if length <= _CROP_PX:
            return [0]
        margin = max(0, length - 2 * _CROP_PX) // 4
        return [margin, length - _CROP_PX - margin]

    return [pixels[top : top + _CROP_PX, left : left + _CROP_PX] for top in starts(height) for left in starts(width)]


def _with_signs(judged: list[_Judged]) -> list[_Judged]:
    """Return the measurements with signs; small images show traces only together."""
    short = PERIODS[-1] // 2 + 1
    small = [(one.summary, one.spectrum) for one in judged if one.spectrum is not None and len(one.spectrum) == short]
    together = None
    if sum(summary.width * summary.height for summary, _ in small) >= _POOLED_PX:
        together = find_traces(np.mean([spectrum for _, spectrum in small], axis=0))
    signed = []
    for one in judged:
        if one.noise is not None:
            pooled = one.spectrum is None or len(one.spectrum) == short
            traces = None if one.spectrum is None else together if pooled else find_traces(one.spectrum)
            signs = signs_of(one.noise, traces, pooled=pooled, maker=one.maker)
            one = one._replace(summary=msgspec.structs.replace(one.summary, signs=signs))
        signed.append(one)
    return signed


# ---------------------------------------------------------------- the folder


def _report(folder: Path, count: int, judged: list[_Judged]) -> DataReport:
    """Return the report on all measurements."""
    summaries = tuple(one.summary for one in judged)
    noises = [one.noise for one in judged if one.noise is not None]
    pixels = np.array([summary.width * summary.height for summary in summaries])
    megapixels = float(pixels.sum()) / 1e6 * count / len(judged)
    sizes = Counter((summary.width, summary.height) for summary in summaries)
    same: defaultdict[str, list[str]] = defaultdict(list)
    for one in judged:
        same[one.pixels_sha256].append(one.summary.name)
    duplicates = tuple(tuple(names) for names in same.values() if len(names) > 1)
    correlation = _correlation(noises)
    stride = _stride(noises, correlation)
    clipped = [(summary.clipped_share, area) for summary, area in zip(summaries, pixels, strict=True)]
    known = np.array([(share, area) for share, area in clipped if share is not None])
    refusals = tuple(_refusals(judged, noises))
    report = DataReport(
        folder=str(folder),
        images=count,
        judged=len(judged),
        megapixels=megapixels,
        sizes=tuple(Size(*size, number) for size, number in sizes.most_common()),
        bit_depths=dict(sorted(Counter(summary.bits for summary in summaries).items())),
        sigma_levels=float(np.median([noise.sigma for noise in noises])),
        noise=_curve(noises),
        autocorrelation=tuple(float(value) for value in correlation),
        stride=stride,
        clipped_share=float(np.average(known[:, 0], weights=known[:, 1])),
        duplicates=duplicates,
        warnings=(),
        refusals=refusals,
        summaries=summaries,
    )
    return msgspec.structs.replace(report, warnings=tuple(_warnings(report, judged)))


def _correlation(noises: list[NoiseEstimate]) -> NDArray[np.float64]:
    """Return the correlation of the noise at 1 to 8 pixels, in the channel where it reaches farthest."""
    correlation = np.median([noise.channel_autocorrelation for noise in noises], axis=0).max(axis=0)
    # Subtracting a plane from each block lowers all distances equally. Camera noise does not reach past the largest
    # stride, so the correlation there is that loss.
    loss = min(0.0, float(correlation[LARGEST_STRIDE - 1 :].mean()))
    return np.asarray((correlation - loss) / (1 - loss))


def _stride(noises: list[NoiseEstimate], correlation: NDArray[np.float64]) -> int:
    """Return the smallest distance at which noise is nearly independent, 1 to 6."""
    if np.median([noise.independence for noise in noises]) >= INDEPENDENT:
        return 1  # the measured correlation is that of the scene
    blocks = sum(noise.flat_blocks for noise in noises)
    limit = NEARLY_INDEPENDENT + 2.5 / math.sqrt(max(1, blocks) * BLOCK_PX**2)  # chance gives this much in a few blocks
    reaches = np.flatnonzero(correlation[: LARGEST_STRIDE - 1] > limit) + 1
    return int(reaches[-1]) + 1 if len(reaches) else 1


def _curve(noises: list[NoiseEstimate]) -> tuple[NoiseAt, ...]:
    """Return the noise per brightness, median over the images that show it."""
    by_image = np.array([np.sqrt(np.mean(noise.sigma_by_brightness**2, axis=1)) for noise in noises])
    found = []
    for bin_, brightness in enumerate(noises[0].brightness_levels):
        shown = by_image[np.isfinite(by_image[:, bin_]), bin_]
        found.append(NoiseAt(float(brightness), float(np.median(shown)) if len(shown) else None))
    return tuple(found)


_NO_NOISE = "have hardly any noise, or less noise than texture"
_NOT_ORIGINAL = {
    "resampled": "show the spectral lines of resampling",
    "untraced": "show neither the mosaic of a camera nor JPEG blocks, although their noise is correlated",
    "smoothed": "have noise smoother than an unprocessed camera image",
}
_TAKE_ORIGINALS = (
    "Use images as the camera wrote them, neither resized nor denoised. Crop instead of resizing, and "
    "develop raw files with noise reduction and lens correction off."
)
_TAKE_NOISY = (
    "Use images with visible noise: high ISO, poor light, noise reduction off. Or train on clean images with "
    "synthetic noise: --objective supervised."
)


def _refusals(judged: list[_Judged], noises: list[NoiseEstimate]) -> Iterable[Finding]:
    """Yield why the folder cannot be trained on: most of its images are doubtful for one kind of reason."""
    # The median image decides. Of a few images, chance may make it look cleaner than it is.
    if np.median([faintness(noise) for noise in noises]) > FAINT + _FAINT_CHANCE / math.sqrt(len(noises)):
        faint = tuple(one.summary.name for one in judged if one.noise and faintness(one.noise) > FAINT)
        text = f"{len(faint)} of {len(noises)} images {_NO_NOISE}; a denoiser learns from noise"
        yield Finding("no-noise", text, _TAKE_NOISY, faint)
    altered = tuple(one.summary.name for one in judged if set(one.summary.signs) & _NOT_ORIGINAL.keys())
    if len(altered) >= (len(noises) if len(noises) < _FEW else _MOST * len(noises)):
        counts = {sign: len(_names_with(judged, sign)) for sign in _NOT_ORIGINAL}
        why = "; ".join(f"{count} {_NOT_ORIGINAL[sign]}" for sign, count in counts.items() if count)
        yield Finding(
            "not-original",
            f"{len(altered)} of {len(noises)} images were probably resized or denoised before: {why}",
            _TAKE_ORIGINALS,
            altered,
        )


def _warnings(report: DataReport, judged: list[_Judged]) -> Iterable[Finding]:
    """Yield the problems that do not prevent training."""
    if report.megapixels < ENOUGH_MEGAPIXELS:
        yield Finding(
            "thin",
            f"few data: expected at least {ENOUGH_MEGAPIXELS:.0f} megapixels and ideally 100 images, got "
            f"{report.megapixels:.1f} megapixels in {report.images} images",
            "Add images from the same camera: a network trained on few images memorizes them.",
        )
    refused = {finding.code for finding in report.refusals}
    for sign, text in {"no-noise": _NO_NOISE, **_NOT_ORIGINAL}.items():
        names = _names_with(judged, sign)
        if names and (sign if sign == "no-noise" else "not-original") not in refused:
            yield Finding(
                sign,
                f"{len(names)} of {report.judged} images {text}",
                "One sign is weak evidence. Look at these images, and remove those that were altered after the camera.",
                names,
            )
    edited = {one.summary.name: one.edited for one in judged if one.edited}
    if edited:
        yield Finding(
            "edited",
            f"{len(edited)} images were edited or cropped according to their EXIF: {next(iter(edited.values()))}",
            "Cropping is harmless. Make sure that they were not resized, sharpened or denoised.",
            tuple(edited),
        )
    if report.duplicates:
        extra = sum(len(group) - 1 for group in report.duplicates)
        yield Finding(
            "duplicates",
            f"{extra} images have the same pixels as another and count double in training",
            "Keep one of each.",
            tuple(name for group in report.duplicates for name in group),
        )
    clipped = tuple(s.name for s in report.summaries if (s.clipped_share or 0) > _MUCH_CLIPPED)
    if report.clipped_share > _MUCH_CLIPPED:
        yield Finding(
            "clipped",
            f"{report.clipped_share:.1%} of all samples are at black or white, where noise is cut off",
            "Prefer images without overexposed or black areas.",
            clipped,
        )
    small = tuple(one.summary.name for one in judged if one.noise is None)
    if small:
        yield Finding("too-small", f"{len(small)} images are too small to be judged", "Remove or replace them.", small)
    if report.stride == 1 and not report.refusals:
        yield Finding(
            "independent",
            "the noise is independent from pixel to pixel, which is rare for cameras",
            "This is right for synthetic noise. Camera images with such noise were resized.",
        )


def _names_with(judged: list[_Judged], sign: str) -> tuple[str, ...]:
    return tuple(one.summary.name for one in judged if sign in one.summary.signs)


def _contents(folder: Path) -> str:
    """Return the contents of a folder without images, in a few words."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return "an empty folder"
    return f"only {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
