"""Whether a folder of images can teach a denoiser: what is in it, and what speaks against it.

Only images that are as noisy as their camera made them teach anything: without noise there is nothing to
learn, and resizing or denoising changes the very correlation that sub-sampling has to undo. Every image is
judged by itself (`noise_signs.py`), from crops at full resolution; a doubtful one is named in a warning, and the
folder is refused when most are. How the limits were found, and what cannot be told: docs/concepts/data-check.md.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from edgedenoise.datacheck.report import DataReport, Finding, NoiseAt, PhotoSummary, Size, data_report_text
from edgedenoise.datacheck.signs import FAINT, FAINT_ALONE, INDEPENDENT, faintness, signs_of, told_by_exif
from edgedenoise.datacheck.traces import PERIODS, find_traces, profile_spectrum
from edgedenoise.errors import DatasetError, ImageError
from edgedenoise.imaging.files import EXTENSIONS, list_images, read_image, to_unit
from edgedenoise.noise.estimation import BLOCK_PX, NoiseEstimate, estimate_noise
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from edgedenoise.imaging.image import Image

__all__ = [
    "DataReport",
    "Finding",
    "check_photographs",
    "data_report_text",
    "list_training_photos",
    "read_training_photo",
]

MOST_JUDGED: Final = 200
"""Of a larger folder this many images are looked at, evenly spread."""
ENOUGH_MEGAPIXELS: Final = 20.0
LARGEST_STRIDE: Final = 6
NEARLY_INDEPENDENT: Final = 0.03
"""Correlation of the noise below which pixels count as independent."""

_CROP_PX = 720  # four of them, two megapixels, are judged of an image
_MUCH_CLIPPED = 0.05

# A refusal needs more than chance would give; docs/concepts/data-check.md has the numbers behind these.
_FAINT_CHANCE = FAINT_ALONE - FAINT  # for one image; falls with the square root of their number
_MOST = 0.6
_FEW = 4  # of fewer images, all have to be doubtful
_POOLED_PX = 240**2  # small images show traces when they have this many pixels together


class _Judged(NamedTuple):
    """One image while the folder is read."""

    summary: PhotoSummary
    pixels_sha256: str
    noise: NoiseEstimate | None
    spectrum: NDArray[np.float64] | None
    """What traces are looked for in."""
    maker: str
    edited: str | None
    """What its EXIF says about having been edited."""


def check_photographs(folder: Path | str, *, progress: Progress = silent) -> DataReport:
    """Look at the images of a folder before a denoiser is trained on them.

    Images are decoded one after another and about two megapixels of each are judged, never resized.

    Args:
        folder: images lie directly in it.
        progress: told of every image.

    Raises:
        DatasetError: the folder does not exist or holds no images, one of them cannot be read, or all are
            too small to be judged. What else speaks against the folder is in the report, as `refusals`.
    """
    folder = Path(folder)
    paths = list_training_photos(folder)
    chosen = [paths[i * len(paths) // MOST_JUDGED] for i in range(MOST_JUDGED)] if len(paths) > MOST_JUDGED else paths
    judged = []
    for index, path in enumerate(chosen):
        progress("check images", index, len(chosen), path.name)
        judged.append(_judge(path.name, read_training_photo(folder, path)))
    progress("check images", len(chosen), len(chosen))
    if all(one.noise is None for one in judged):
        raise DatasetError(
            f"{folder} cannot be trained on: none of its images has {BLOCK_PX} pixels on each side",
            hint="Put images there as the camera made them.",
        )
    return _report(folder, len(paths), _with_signs(judged))


def list_training_photos(folder: Path | str) -> list[Path]:
    """Return the images that lie directly in `folder`, sorted by name.

    Raises:
        DatasetError: the folder does not exist, or holds no images.
    """
    folder = Path(folder)
    paths = list_images(folder)
    if not paths:
        raise DatasetError(
            f"{folder} holds no images{_what_else(folder)}; accepted: {', '.join(EXTENSIONS)}",
            hint="Name the folder in which the images lie directly; subfolders are not searched.",
        )
    return paths


def read_training_photo(folder: Path, path: Path) -> Image:
    """Read one image of a folder that is to be trained on.

    Raises:
        DatasetError: it cannot be read; the message names folder and image.
    """
    try:
        return read_image(path)
    except ImageError as error:
        raise DatasetError(
            f"{folder} cannot be trained on: {error.message}",
            hint=f"Move {path.name} out of the folder or replace it. {error.hint or ''}".rstrip(),
        ) from error


# ---------------------------------------------------------------- one image


def _judge(name: str, photo: Image) -> _Judged:
    """Measure one image, all but its signs; its pixels are not kept."""
    pixels = np.ascontiguousarray(photo.pixels)
    maker, edited = told_by_exif(photo)
    noise = spectrum = None
    if min(photo.height, photo.width) >= BLOCK_PX:
        crops = [to_unit(crop) for crop in _crops(pixels)]
        seamless = [crop[: len(crop) // BLOCK_PX * BLOCK_PX] for crop in crops]  # no block lies across a seam
        noise = estimate_noise(np.concatenate(seamless))
        spectrum = profile_spectrum([crop * np.float32(255) for crop in crops])
    summary = PhotoSummary(
        name,
        photo.width,
        photo.height,
        photo.bits,
        photo.channels,
        None if noise is None else noise.sigma,
        None if noise is None else noise.clipped_share,
    )
    return _Judged(summary, photo.pixels_sha256, noise, spectrum, maker, edited)


def _crops(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the whole of a small image, or parts of at most 720 pixels from its quarters, (H, W, C) each."""
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
    """Look for signs; small images show traces only together."""
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
    """Pool what was found."""
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
        photographs=count,
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
    """Return the noise's correlation at distances of 1 to 8 pixels, in the channel in which it reaches farthest."""
    correlation = np.median([noise.channel_autocorrelation for noise in noises], axis=0).max(axis=0)
    # Blocks lose their plane before they are measured, which lowers all distances alike; camera noise does not
    # reach past the largest stride, so what is measured there is that loss.
    loss = min(0.0, float(correlation[LARGEST_STRIDE - 1 :].mean()))
    return np.asarray((correlation - loss) / (1 - loss))


def _stride(noises: list[NoiseEstimate], correlation: NDArray[np.float64]) -> int:
    """Return the smallest distance from which on noise is nearly independent, 1 to 6."""
    if np.median([noise.independence for noise in noises]) >= INDEPENDENT:
        return 1  # what correlation is measured is the scene's
    blocks = sum(noise.flat_blocks for noise in noises)
    limit = NEARLY_INDEPENDENT + 2.5 / math.sqrt(max(1, blocks) * BLOCK_PX**2)  # what chance gives in a few blocks
    reaches = np.flatnonzero(correlation[: LARGEST_STRIDE - 1] > limit) + 1
    return int(reaches[-1]) + 1 if len(reaches) else 1


def _curve(noises: list[NoiseEstimate]) -> tuple[NoiseAt, ...]:
    """Return the noise per brightness, median over the images that show it."""
    by_photo = np.array([np.sqrt(np.mean(noise.sigma_by_brightness**2, axis=1)) for noise in noises])
    found = []
    for bin_, brightness in enumerate(noises[0].brightness_levels):
        shown = by_photo[np.isfinite(by_photo[:, bin_]), bin_]
        found.append(NoiseAt(float(brightness), float(np.median(shown)) if len(shown) else None))
    return tuple(found)


_NO_NOISE = "have no noise to speak of, or noise that is lost in their texture"
_NOT_ORIGINAL = {
    "resampled": "show the lines that resampling leaves",
    "untraced": "show neither a camera's mosaic nor JPEG's blocks, though their noise is correlated",
    "smoothed": "have noise smoother than any camera's that is left alone",
}
_TAKE_ORIGINALS = (
    "Take the images as the camera wrote them: not resized, not denoised; crop instead of shrinking, and "
    "develop raw files with noise reduction and lens correction off."
)
_TAKE_NOISY = (
    "Take images in which the noise is seen: high ISO, poor light, noise reduction off; or add noise to clean "
    "ones (edgedenoise.noise.synthesis)."
)


def _refusals(judged: list[_Judged], noises: list[NoiseEstimate]) -> Iterable[Finding]:
    """Say why the folder cannot be trained on: most of its images are doubtful for the same kind of reason."""
    # The median image decides; of a few, chance may make it look cleaner than it is.
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
            f"{len(altered)} of {len(noises)} images seem to have been resized or denoised before: {why}",
            _TAKE_ORIGINALS,
            altered,
        )


def _warnings(report: DataReport, judged: list[_Judged]) -> Iterable[Finding]:
    """Say what is doubtful and no reason to refuse."""
    if report.megapixels < ENOUGH_MEGAPIXELS:
        yield Finding(
            "thin",
            f"{report.megapixels:.1f} megapixels in {report.photographs} images are few; {ENOUGH_MEGAPIXELS:.0f} "
            "megapixels are a beginning, and published work used 100 images or more",
            "Add images of the same camera; a network trained on few remembers them.",
        )
    refused = {finding.code for finding in report.refusals}
    for sign, text in {"no-noise": _NO_NOISE, **_NOT_ORIGINAL}.items():
        names = _names_with(judged, sign)
        if names and (sign if sign == "no-noise" else "not-original") not in refused:
            yield Finding(
                sign,
                f"{len(names)} of {report.judged} images {text}",
                "One sign is weak evidence: look at them, and remove those that are not as the camera made them.",
                names,
            )
    edited = {one.summary.name: one.edited for one in judged if one.edited}
    if edited:
        yield Finding(
            "edited",
            f"{len(edited)} images were edited or cropped, by their EXIF: {next(iter(edited.values()))}",
            "Cropping does no harm. Make sure that they were not resized, sharpened or denoised.",
            tuple(edited),
        )
    if report.duplicates:
        extra = sum(len(group) - 1 for group in report.duplicates)
        yield Finding(
            "duplicates",
            f"{extra} images have the same pixels as another; they count double in training",
            "Keep one of each.",
            tuple(name for group in report.duplicates for name in group),
        )
    clipped = tuple(s.name for s in report.summaries if (s.clipped_share or 0) > _MUCH_CLIPPED)
    if report.clipped_share > _MUCH_CLIPPED:
        yield Finding(
            "clipped",
            f"{report.clipped_share:.1%} of all samples are at black or white, where noise is cut off",
            "Prefer images without burnt-out or drowned areas.",
            clipped,
        )
    small = tuple(one.summary.name for one in judged if one.noise is None)
    if small:
        yield Finding("too-small", f"{len(small)} images are too small to be judged", "Remove or replace them.", small)
    if report.stride == 1 and not report.refusals:
        yield Finding(
            "independent",
            "the noise is independent from pixel to pixel, as hardly any camera's is",
            "Right for synthetic noise, which stride 1 is for. Camera images that look like this were shrunk.",
        )


def _names_with(judged: list[_Judged], sign: str) -> tuple[str, ...]:
    return tuple(one.summary.name for one in judged if sign in one.summary.signs)


def _what_else(folder: Path) -> str:
    """Say what a folder without images does hold."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return ": it is empty"
    return f", only {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
