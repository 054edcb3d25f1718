"""What became of each file of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgedenoise.runtimes.choosing import PassedOver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.errors import EdgeDenoiseError
    from edgedenoise.imaging.folders import LeftOut
    from edgedenoise.runtimes.base import EffectiveDevice


@dataclass(frozen=True)
class StageSeconds:
    """Wall-clock seconds of the stages of one image; None for a stage that was not reached.

    Stages of different images overlap, so their sum over a run exceeds the time of the run.
    """

    read: float | None = None
    """Reading and decoding the file."""
    denoise: float | None = None
    """Denoising the first frame."""
    write: float | None = None
    """Encoding and writing the file; of a file of several frames also denoising the further ones."""


@dataclass(frozen=True)
class FileResult:
    """The result of one image."""

    source: Path
    """Image file that was read."""
    output: Path | None
    """File that was written; None when the image failed."""
    error: EdgeDenoiseError | None = None
    """Reason of the failure; None when the image was written."""
    variant: str | None = None
    """Name of the variant that ran; None when the image was not denoised."""
    float_reason: str | None = None
    """Which images run in float although INT8 was chosen, where this is one of them, for example `images with less
    noise than 6.9 LSB`; None otherwise."""
    noise: float | None = None
    """Noise of the image in 8-bit levels (RMS), estimated or stated; None for networks that do not take it."""
    notes: tuple[str, ...] = ()
    """What the output does not hold, or holds without denoising it, each as a sentence."""
    width: int | None = None
    """Columns of the image; None when its size is not known."""
    height: int | None = None
    """Rows of the image; None when its size is not known."""
    seconds: StageSeconds = field(default_factory=StageSeconds)
    """Time of each stage."""

    @property
    def megapixels(self) -> float | None:
        """Millions of pixels; None when the size is not known."""
        return None if self.width is None or self.height is None else self.width * self.height / 1e6


@dataclass(frozen=True)
class Counts:
    """How many files of a run were denoised, failed, and were left out."""

    denoised: int
    """Images that were written."""
    failed: int
    """Images that could not be read, denoised or written."""
    left_out: int
    """Files and folders that the run did not read."""


@dataclass(frozen=True)
class BatchReport:
    """The results of a run, one per image."""

    variant: str | None
    """Name of the variant that ran the first image; None when nothing ran. `FileResult.variant` has that of each."""
    effective: EffectiveDevice
    """Runtime and device that were opened."""
    files: tuple[FileResult, ...]
    """One result per image, in the order of the inputs."""
    left_out: tuple[LeftOut, ...]
    """Files and folders that the run did not read, each with the reason."""
    counts: Counts
    """Numbers of images written, failed and left out."""
    seconds: float = 0.0
    """Wall-clock seconds of the run, without opening the model."""
    passed_over: tuple[PassedOver, ...] = ()
    """Variants that ran no image, with the reasons."""
    float_instead_of: tuple[PassedOver, ...] = ()
    """INT8 variants among them, where a float variant ran although the precision was left open."""

    @property
    def failures(self) -> tuple[FileResult, ...]:
        """Results of the images that could not be denoised."""
        return tuple(result for result in self.files if result.error is not None)


@dataclass(frozen=True)
class OpenedModel:
    """What a run opened."""

    effective: EffectiveDevice
    """Runtime and device."""
    chosen: str
    """Name of the variant that was chosen before any image was read."""
    precision: str
    """Precision of that variant."""
    passed_over: tuple[PassedOver, ...]
    """The other variants, with the reasons."""
    float_instead_of: tuple[PassedOver, ...]
    """As in `BatchReport`."""

    @classmethod
    def by(cls, denoiser: Denoiser) -> OpenedModel:
        """Return what a denoiser opened."""
        choice = denoiser.choice
        variant = choice.variant
        return cls(denoiser.effective, variant.name, variant.precision, choice.passed_over, choice.int8_passed_over)

    def report(self, files: Sequence[FileResult], left_out: tuple[LeftOut, ...], seconds: float) -> BatchReport:
        """Return the report of a run."""
        failed = sum(result.error is not None for result in files)
        counts = Counts(len(files) - failed, failed, len(left_out))
        ran = dict.fromkeys(result.variant for result in files if result.variant is not None)
        passed_over = tuple(one for one in self.passed_over if one.variant not in ran)
        reason = next((result.float_reason for result in files if result.float_reason is not None), None)
        if reason is not None and self.chosen not in ran:
            passed_over = (PassedOver(self.chosen, self.precision, f"{reason} run in float"), *passed_over)
        return BatchReport(
            next(iter(ran), None),
            self.effective,
            tuple(files),
            left_out,
            counts,
            seconds,
            passed_over,
            self.float_instead_of,
        )
