"""What `data_check.py` reports of a folder of images: as data, and as text for people."""

from __future__ import annotations

import msgspec

from edgedenoise.tables import table

_NAMED = 5  # names in a line of text
_SIZES_SHOWN = 4


class Finding(msgspec.Struct, frozen=True):
    """Something that speaks against the folder, or against images in it."""

    code: str
    """Stable: what a script may look for; docs/concepts/data-check.md lists them."""
    message: str
    hint: str
    photographs: tuple[str, ...] = ()
    """Names of those concerned; empty where it is about the folder."""


class Size(msgspec.Struct, frozen=True):
    """How many images have one size."""

    width: int
    height: int
    photographs: int


class NoiseAt(msgspec.Struct, frozen=True):
    """Noise in one range of brightness; 8-bit levels."""

    brightness_levels: float
    sigma_levels: float | None
    """Median over images of the root mean square over channels; None where no image shows it."""


class PhotoSummary(msgspec.Struct, frozen=True):
    """One image that was looked at."""

    name: str
    width: int
    height: int
    bits: int
    channels: int
    sigma_levels: float | None
    """None where it is too small to tell."""
    clipped_share: float | None
    signs: tuple[str, ...] = ()
    """What makes it doubtful: `no-noise`, `resampled`, `untraced`, `smoothed`."""


class DataReport(msgspec.Struct, frozen=True):
    """What `check_photographs` found."""

    folder: str
    photographs: int
    judged: int
    """How many were looked at: all, or 200 evenly spread; everything below but `megapixels` is about these."""
    megapixels: float
    """Of the whole folder; of a larger one extrapolated from those that were looked at."""
    sizes: tuple[Size, ...]
    """Most frequent first."""
    bit_depths: dict[int, int]
    """Bits per sample -> images."""
    sigma_levels: float | None
    """Root mean square noise, median over images, 8-bit levels."""
    noise: tuple[NoiseAt, ...]
    """Per range of brightness, dark to bright."""
    autocorrelation: tuple[float, ...]
    """Of the noise with itself 1 to 8 pixels away, median over images, in the channel of the farthest reach."""
    stride: int
    """Sub-sampling stride that the correlation calls for, 1 to 6."""
    clipped_share: float
    """Share of samples at black or white, 0 to 1."""
    duplicates: tuple[tuple[str, ...], ...]
    """Names of images with the same pixels."""
    warnings: tuple[Finding, ...]
    refusals: tuple[Finding, ...]
    """Why the folder cannot be trained on; empty where it can."""
    summaries: tuple[PhotoSummary, ...]


def data_report_text(report: DataReport) -> str:
    """Say what was found, worst first within each part, and what to do."""
    sizes = [f"{size.width}x{size.height} ({size.photographs})" for size in report.sizes[:_SIZES_SHOWN]]
    sizes += [f"{len(report.sizes) - _SIZES_SHOWN} other sizes"] if len(report.sizes) > _SIZES_SHOWN else []
    depths = ", ".join(f"{bits}-bit ({count})" for bits, count in sorted(report.bit_depths.items()))
    lines = [f"{report.folder}: {report.photographs} images, {report.megapixels:.1f} megapixels"]
    if report.judged < report.photographs:
        lines[0] += f" (extrapolated: {report.judged} of them, evenly spread, were looked at)"
    sigma = "not measurable" if report.sigma_levels is None else f"{report.sigma_levels:.1f} of 255 levels"
    lines += [
        f"sizes       {', '.join(sizes)}",
        f"depth       {depths}",
        f"clipped     {report.clipped_share:.1%} of all samples at black or white",
        f"duplicates  {sum(len(group) - 1 for group in report.duplicates)}",
        f"noise       {sigma}, median of the images; by brightness:",
        "",
        _noise_table(report),
        "",
        table(
            ["pixels apart", *(str(lag + 1) for lag in range(len(report.autocorrelation)))],
            [["correlation", *(f"{value:.2f}" for value in report.autocorrelation)]],
        ),
        f"sub-sampling stride {report.stride}: the distance from which on noise is nearly independent",
    ]
    for title, findings in (("warning", report.warnings), ("CANNOT BE TRAINED ON", report.refusals)):
        for finding in findings:
            lines += ["", f"{title} [{finding.code}]: {finding.message}"]
            lines += [f"  {_names(finding.photographs)}"] if finding.photographs else []
            lines.append(f"  {finding.hint}")
    if not report.refusals:
        lines += ["", "These images can be trained on."]
    return "\n".join(lines)


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _noise_table(report: DataReport) -> str:
    """Lay out the noise by brightness, two ranges a column, so that it fits a line."""
    shown = [point for point in report.noise if point.sigma_levels is not None]
    return table(
        ["brightness", *(f"{point.brightness_levels:.0f}" for point in shown)],
        [["sigma", *(f"{point.sigma_levels:.1f}" for point in shown)]],
    )
