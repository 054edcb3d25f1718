"""Report about a folder of training images: as data, and as text."""

from __future__ import annotations

import msgspec

from edgedenoise.printable import one_line
from edgedenoise.tables import table

_NAMED = 5  # names in a line of text
_SIZES_SHOWN = 4
_COLUMNS = 8  # ranges of brightness per table


class Finding(msgspec.Struct, frozen=True):
    """A problem of the folder, or of images in it."""

    code: str
    """Stable name of the problem, for scripts; docs/concepts/data-check.md lists them."""
    message: str
    """Description of the problem."""
    hint: str
    """What to do about it."""
    images: tuple[str, ...] = ()
    """Names of the images concerned; empty where the problem is of the folder."""


class Size(msgspec.Struct, frozen=True):
    """Number of images of one size."""

    width: int
    """Columns."""
    height: int
    """Rows."""
    images: int
    """Number of images."""


class NoiseAt(msgspec.Struct, frozen=True):
    """Noise in one range of brightness; 8-bit levels."""

    brightness_levels: float
    sigma_levels: float | None
    """Median over images of the root mean square over channels; None where no image shows it."""


class ImageSummary(msgspec.Struct, frozen=True):
    """Properties of one image that was judged."""

    name: str
    width: int
    height: int
    bits: int
    channels: int
    sigma_levels: float | None
    """Root mean square noise in 8-bit levels; None where the image is too small."""
    clipped_share: float | None
    """Share of samples at black or white, 0 to 1; None where the image is too small."""
    signs: tuple[str, ...] = ()
    """Signs against it: `no-noise`, `resampled`, `untraced`, `smoothed`."""


class DataReport(msgspec.Struct, frozen=True):
    """Result of `check_images`."""

    folder: str
    """Path of the folder."""
    images: int
    """Number of images in the folder."""
    judged: int
    """Number of images that were judged: all, or 200 evenly spread. The fields below refer to these."""
    megapixels: float
    """Size of the whole folder; extrapolated where only 200 images were judged."""
    sizes: tuple[Size, ...]
    """Sizes of the images, most frequent first."""
    bit_depths: dict[int, int]
    """Number of images by bits per sample."""
    sigma_levels: float | None
    """Root mean square noise, median over images, 8-bit levels."""
    noise: tuple[NoiseAt, ...]
    """Noise per range of brightness, dark to bright."""
    autocorrelation: tuple[float, ...]
    """Correlation of the noise at 1 to 8 pixels, median over images, in the channel where it reaches farthest."""
    stride: int
    """Sub-sampling stride that fits the correlation, 1 to 6."""
    clipped_share: float
    """Share of samples at black or white, 0 to 1."""
    duplicates: tuple[tuple[str, ...], ...]
    """Names of images with the same pixels."""
    warnings: tuple[Finding, ...]
    """Problems that do not prevent training."""
    refusals: tuple[Finding, ...]
    """Problems that prevent training; empty where the folder can be trained on."""
    summaries: tuple[ImageSummary, ...]
    """One per judged image."""


def data_report_text(report: DataReport) -> str:
    """Format a report: the properties of the folder, its problems, and what to do."""
    sizes = [f"{size.width}x{size.height} ({size.images})" for size in report.sizes[:_SIZES_SHOWN]]
    sizes += [f"{len(report.sizes) - _SIZES_SHOWN} other sizes"] if len(report.sizes) > _SIZES_SHOWN else []
    depths = ", ".join(f"{bits}-bit ({count})" for bits, count in sorted(report.bit_depths.items()))
    lines = [f"{one_line(report.folder)}: {report.images} images, {report.megapixels:.1f} megapixels"]
    if report.judged < report.images:
        lines[0] += f" (extrapolated from {report.judged} of them, evenly spread)"
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
        f"sub-sampling stride {report.stride}: the distance in pixels at which noise is nearly independent",
    ]
    for title, findings in (("warning", report.warnings), ("CANNOT BE TRAINED ON", report.refusals)):
        for finding in findings:
            lines += ["", f"{title} [{finding.code}]: {one_line(finding.message)}"]
            lines += [f"  {_names(finding.images)}"] if finding.images else []
            lines.append(f"  {one_line(finding.hint)}")
    if not report.refusals:
        lines += ["", "These images can be trained on."]
    return "\n".join(lines)


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(one_line, names[:_NAMED]))
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _noise_table(report: DataReport) -> str:
    """Format the noise by brightness, in tables that fit 80 columns."""
    shown = [point for point in report.noise if point.sigma_levels is not None]
    return "\n\n".join(
        table(
            ["brightness", *(f"{point.brightness_levels:.0f}" for point in part)],
            [["sigma", *(f"{point.sigma_levels:.1f}" for point in part)]],
        )
        for part in (shown[i : i + _COLUMNS] for i in range(0, len(shown), _COLUMNS))
    )
