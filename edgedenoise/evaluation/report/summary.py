"""Statistics of a run for people: medians, ratios, means and losses, each computed from the raw samples of the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.evaluation.bootstrap import Interval, mean_interval
from edgedenoise.evaluation.measurement import FLOAT_PRECISIONS, percentile
from edgedenoise.evaluation.results import CALL, NOISE
from edgedenoise.runtimes.timing import speed_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedenoise.evaluation.results import Check, ImageQuality, ImageResult, Run, VariantResult

EQUAL_DB = 99.0
"""PSNR that stands for equal images in means, because a mean with infinity says nothing."""


@dataclass(frozen=True)
class Change:
    """Change of the PSNR from the float variant of a runtime to another one; negative is a loss.

    The mean and the worst are over the images that the other one is recommended for, or over all where there are none.
    """

    against: str
    """Name of the float variant."""
    mean_db: float
    interval: Interval | None
    """95 % confidence interval of the mean; None for too few images."""
    worst_db: float
    worst_image: str
    per_image_db: dict[str, float]
    """Change on each image, by its name."""


@dataclass(frozen=True)
class VariantSummary:
    """One variant of a run."""

    result: VariantResult
    ms_per_mp: tuple[float, ...]
    """Whole calls, in order of the rounds."""
    speed: float | None
    """Speed against `compared_with`: median over rounds of its time / the time of this variant."""
    compared_with: str
    """Fastest float variant of the run; empty when there is none."""
    means: dict[str, float]
    """Means over the images by the name of the measure; those that some image lacks are left out."""
    change: Change | None
    """None without ground truth, and for variants that are float themselves."""
    to_float_db: float | None
    """Mean PSNR to the float reference; None where it is not known."""
    max_error_lsb: float | None
    """Maximum absolute error to the float reference, in 8-bit levels."""

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.result.name

    @property
    def p50(self) -> float | None:
        """Median milliseconds per megapixel."""
        return float(np.median(self.ms_per_mp)) if self.ms_per_mp else None

    @property
    def p90(self) -> float | None:
        """90th percentile of the milliseconds per megapixel; None for too few samples."""
        return percentile(self.ms_per_mp, 90)

    @property
    def is_float(self) -> bool:
        """Whether it computes in floats."""
        return self.result.precision in FLOAT_PRECISIONS

    @property
    def quality_db(self) -> float | None:
        """Mean PSNR to the ground truth, or to float where there is no ground truth."""
        return self.means.get("psnr_db", self.to_float_db)


@dataclass(frozen=True)
class AutoSummary:
    """What users get who name no variant: each image from the variant that `denoise` chooses for it."""

    counts: dict[str, int]
    """Number of images by variant, most first."""
    means: dict[str, float]
    """Means over the images, as `VariantSummary.means`."""
    ms_per_mp: float | None
    """Mean over the images of the median time of their variant, weighted by their pixels; None for unknown."""
    speed: float | None
    """Time of the float variant of the same runtime / `ms_per_mp`; None for unknown."""
    max_error_lsb: float | None
    """Maximum absolute error to the float reference, in 8-bit levels."""

    @property
    def sentence(self) -> str:
        """How many images run on which variant."""
        parts = [f"{name} for {count} image{'' if count == 1 else 's'}" for name, count in self.counts.items()]
        return f"auto, as denoise runs without options: {', '.join(parts)}"


@dataclass(frozen=True)
class DeviceSummary:
    """A run of one bundle on one device."""

    run: Run
    variants: tuple[VariantSummary, ...]
    noisy: dict[str, float]
    """Means over the noisy images, as `VariantSummary.means`."""
    auto: AutoSummary | None
    """None where no images were compared, or a variant that `denoise` chooses for one of them failed."""
    tested: Run | None
    """Latest run of `edgedenoise test` on the device with the same bundle; None where there is none."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """Limits that were checked."""
        return () if self.tested is None else self.tested.checks

    @property
    def label(self) -> str:
        """Name of the device."""
        return self.run.machine.label

    @property
    def has_truth(self) -> bool:
        """Whether the images have ground truth."""
        return "psnr_db" in self.noisy

    def measured(self) -> list[VariantSummary]:
        """Return the variants that were timed, fastest first."""
        timed = [(one.p50, one) for one in self.variants if one.p50 is not None and not one.result.error]
        return [one for _, one in sorted(timed, key=lambda pair: pair[0])]


def summarize_run(run: Run, tested: Run | None = None) -> DeviceSummary:
    """Return the statistics of a run.

    Args:
        run: the run.
        tested: run of `edgedenoise test` on the same device with the same bundle; None where there is none.
    """
    samples = {one.name: _ms_per_mp(one) for one in run.variants}
    floats = [one.name for one in run.variants if one.precision in FLOAT_PRECISIONS and samples[one.name]]
    fastest = min(floats, key=lambda name: float(np.median(samples[name])), default="")
    variants = []
    for one in run.variants:
        distances = [image.to_float for image in one.images if image.to_float is not None]
        ratio = speed_ratio(samples[fastest], samples[one.name]) if fastest else None
        variants.append(
            VariantSummary(
                result=one,
                ms_per_mp=samples[one.name],
                speed=ratio,
                compared_with=fastest,
                means=_means([measures(image) for image in one.images]),
                change=_change(run, one),
                to_float_db=_mean([_db(distance.psnr_db) for distance in distances]),
                max_error_lsb=max((distance.max_error_lsb for distance in distances), default=None),
            )
        )
    noisy = _means([{**_quality_measures(image.noisy), **image.measures} for image in run.images])
    return DeviceSummary(run, tuple(variants), noisy, _auto(run, samples), tested)


def _auto(run: Run, ms_per_mp: Mapping[str, Sequence[float]]) -> AutoSummary | None:
    """Join the results of the variants that `denoise` chooses for the images; see `AutoSummary`."""
    found = {(one.name, image.image): image for one in run.variants for image in one.images}
    chosen = [found.get((image.auto, image.name)) for image in run.images]
    results = [one for one in chosen if one is not None]
    if not results or len(results) != len(run.images):
        return None
    counts = Counter(image.auto for image in run.images)
    used = [one for one in run.variants if one.name in counts]
    # Only the float reference has no distance to itself.
    errors = [0.0 if one.to_float is None else one.to_float.max_error_lsb for one in results]
    times = {one.name: float(np.median(ms_per_mp[one.name])) for one in run.variants if ms_per_mp[one.name]}
    milliseconds = None
    if all(name in times for name in counts):
        pixels = [image.height_px * image.width_px for image in run.images]
        milliseconds = float(np.average([times[image.auto] for image in run.images], weights=pixels))
    floats = [one.compared_with or one.name for one in used]
    reference = times.get(floats[0])
    return AutoSummary(
        counts=dict(counts.most_common()),
        means=_means([measures(one) for one in results]),
        ms_per_mp=milliseconds,
        speed=reference / milliseconds if milliseconds and reference else None,
        max_error_lsb=max(errors),
    )


def measures(image: ImageResult) -> dict[str, float]:
    """Return all measures of an image by name; equal images count as `EQUAL_DB`."""
    return {**_quality_measures(image.quality), **image.measures}


def _quality_measures(quality: ImageQuality | None) -> dict[str, float]:
    if quality is None:
        return {}
    found = {"psnr_db": _db(quality.psnr_db), **quality.more}
    if quality.ssim is not None:
        found["ssim"] = quality.ssim
    if quality.color_shift_lsb is not None:
        found["colour_shift_lsb"] = max(abs(shift) for shift in quality.color_shift_lsb)
    return found


def _ms_per_mp(variant: VariantResult) -> tuple[float, ...]:
    timing = variant.timing(CALL)
    if timing is None:
        return ()
    megapixels = timing.height_px * timing.width_px * timing.images / 1e6
    return tuple(sample / megapixels for sample in timing.samples_ms)


def _change(run: Run, variant: VariantResult) -> Change | None:
    reference = next((other for other in _references(run, variant) if other.images), None)
    if variant.precision in FLOAT_PRECISIONS or reference is None:
        return None
    theirs = {image.image: image.quality for image in reference.images}
    changes: dict[str, float] = {}
    for image in variant.images:
        float_quality = theirs.get(image.image)
        if image.quality is not None and float_quality is not None:
            changes[image.image] = _db(image.quality.psnr_db) - _db(float_quality.psnr_db)
    if not changes or len(changes) != len(run.images):
        return None  # a mean over fewer images would mislead
    counted = suited_images(run, variant) or list(changes)
    worst = min(counted, key=changes.__getitem__)
    values = [changes[name] for name in counted]
    return Change(reference.name, float(np.mean(values)), mean_interval(values), changes[worst], worst, changes)


def suited_images(run: Run, variant: VariantResult) -> list[str]:
    """Return the names of the images that a variant is recommended for; `denoise` runs the others in float."""
    return [image.name for image in run.images if image.measures.get(NOISE, 255.0) >= variant.least_noise_lsb]


def _references(run: Run, variant: VariantResult) -> list[VariantResult]:
    """Return the float variants that a change is measured from: of its own runtime first, FP32 before FP16."""
    floats = [one for one in run.variants if one.precision in FLOAT_PRECISIONS and not one.error]
    return sorted(floats, key=lambda one: (one.runtime != variant.runtime, FLOAT_PRECISIONS.index(one.precision)))


def _means(of_images: Sequence[dict[str, float]]) -> dict[str, float]:
    if not of_images:
        return {}
    names = [name for name in of_images[0] if all(name in measured for measured in of_images)]
    return {name: float(np.mean([measured[name] for measured in of_images])) for name in names}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _db(psnr_db: float | None) -> float:
    return EQUAL_DB if psnr_db is None else min(psnr_db, EQUAL_DB)
