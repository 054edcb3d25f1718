"""Columns of the tables of a report: which measures there are, what they are called, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.evaluation.report.summary import EQUAL_DB, measures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedenoise.evaluation.report.summary import DeviceSummary, VariantSummary
    from edgedenoise.evaluation.results import Check

NO_VALUE = "-"
AUTO = "auto"
"""Name of the row of what users get who name no variant."""


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, and the value that it is sorted by."""

    text: str
    value: float | None = None
    bad: bool = False
    """Whether it is marked: an image that a variant makes worse."""


@dataclass(frozen=True)
class ImageRow:
    """One image of one variant on one device."""

    device: str
    image: str
    variant: str
    worse: bool
    """Whether the result is farther from the ground truth than the noisy image."""
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


MEASURES = {
    "psnr_db": ("PSNR dB", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "ms_ssim": ("MS-SSIM", "{:.4f}"),
    "colour_shift_lsb": ("colour shift", "{:.2f}"),
    "blotches_lsb": ("blotches", "{:.2f}"),
    "edges": ("edge F-score", "{:.3f}"),
    "keypoints": ("keypoints", "{:.3f}"),
    "residual_noise_lsb": ("residual noise", "{:.2f}"),
    "detail_kept": ("detail kept", "{:.0%}"),
}
"""Measure -> its heading and its format, in the order of the columns."""

EXPLANATIONS = {
    "psnr_db": "PSNR is computed on 8-bit sRGB against the ground truth, over all channels.",
    "ssim": "SSIM uses Gaussian windows of 11x11 pixels; 1 is equal.",
    "ms_ssim": "MS-SSIM is the same at five scales, on luma.",
    "colour_shift_lsb": "Colour shift is the largest difference of a channel's mean to the ground truth, in levels.",
    "blotches_lsb": "Blotches are the colour error in cells of 16x16 pixels, in levels.",
    "edges": "The edge F-score compares Canny's edges with those of the ground truth; 1 is equal.",
    "keypoints": "Keypoints is the share of the ground truth's corners that are found again.",
    "residual_noise_lsb": "Residual noise is the deviation in flat blocks, in levels. It needs no ground truth.",
    "detail_kept": "Detail kept is the share of the input's fine structure in busy blocks. It needs no ground truth."
    " Read it together with the residual noise: a blur keeps little, and the input keeps all.",
}


def present_measures(devices: Sequence[DeviceSummary]) -> list[str]:
    """Return the measures that any image of any device has, in the order of the columns."""
    found: set[str] = set()
    for device in devices:
        found.update(device.noisy)
        for one in device.variants:
            for image in one.result.images:
                found.update(measures(image))
    return [name for name in MEASURES if name in found]


def image_columns(devices: Sequence[DeviceSummary]) -> list[str]:
    """Return the headings of the table of images after device, image and variant."""
    headings = [MEASURES[name][0] for name in present_measures(devices)]
    if "PSNR dB" in headings:
        headings[1:1] = ["gain dB", "change to float dB"]
    return [*headings, "PSNR to float dB", "largest error"]


def image_rows(devices: Sequence[DeviceSummary]) -> list[ImageRow]:
    """Return one row per image, variant and device."""
    names = present_measures(devices)
    rows = []
    for device in devices:
        noisy = {image.name: image.noisy for image in device.run.images}
        for one in device.variants:
            for image in one.result.images:
                found = measures(image)
                given = noisy.get(image.image)
                gain = None
                if given is not None and "psnr_db" in found:
                    gain = found["psnr_db"] - (EQUAL_DB if given.psnr_db is None else given.psnr_db)
                cells = [cell(MEASURES[name][1], found.get(name)) for name in names]
                if "psnr_db" in names:
                    change = None if one.change is None else one.change.per_image_db.get(image.image)
                    cells[1:1] = [cell("{:+.2f}", gain, bad=gain is not None and gain < 0), cell("{:+.3f}", change)]
                distance = image.to_float
                to_float = None if distance is None else distance.psnr_db
                equal = distance is not None and to_float is None
                cells.append(Cell("equal", EQUAL_DB) if equal else cell("{:.1f}", to_float))
                cells.append(cell("{:.0f}", None if distance is None else distance.max_error_lsb))
                worse = gain is not None and gain < 0
                rows.append(ImageRow(device.label, image.image, one.name, worse, tuple(cells)))
    return rows


def cell(form: str, value: float | None, *, bad: bool = False) -> Cell:
    """Return a cell of a number, or of none."""
    return Cell(NO_VALUE) if value is None else Cell(form.format(value), value, bad)


def variant_table(device: DeviceSummary) -> Table:
    """Return the table of a device: one row per variant, with the columns that any of them has."""
    names = [name for name in present_measures([device]) if any(name in one.means for one in device.variants)]
    columns: dict[str, Callable[[VariantSummary], str]] = {
        "speed": lambda one: _text("{:.2f}x", one.speed),
        "ms/MP": lambda one: _text("{:.0f}", one.p50),
        "p90": lambda one: _text("{:.0f}", one.p90),
    }
    if device.has_truth:
        columns["change to float dB"] = lambda one: NO_VALUE if one.change is None else f"{one.change.mean_db:+.3f}"
        columns["95 % interval"] = _interval
        columns["worst image dB"] = lambda one: NO_VALUE if one.change is None else f"{one.change.worst_db:+.2f}"
    for name in names:
        columns[MEASURES[name][0]] = lambda one, name=name: _text(MEASURES[name][1], one.means.get(name))  # type: ignore[misc]
    if any(one.to_float_db is not None for one in device.variants):
        columns["PSNR to float dB"] = lambda one: _db(one.to_float_db)
        columns["largest error"] = lambda one: _text("{:.0f}", one.max_error_lsb)
    columns |= {
        "load ms": lambda one: _text("{:.0f}", one.result.load_ms),
        "peak MB": lambda one: _megabytes(one.result.peak_rss_bytes),
        "size KB": lambda one: f"{one.result.size_bytes / 1024:.0f}",
    }
    rows = [(one.name, *(text(one) for text in columns.values())) for one in device.variants]
    auto = device.auto
    if auto is not None and len(auto.counts) > 1:  # with one variant it is the row of that variant
        cells = {MEASURES[name][0]: _text(MEASURES[name][1], auto.means.get(name)) for name in names}
        cells |= {"speed": _text("{:.2f}x", auto.speed), "ms/MP": _text("{:.0f}", auto.ms_per_mp)}
        cells["largest error"] = _text("{:.0f}", auto.max_error_lsb)
        rows.append((AUTO, *(cells.get(column, "") for column in columns)))
    if device.noisy:
        shown = {MEASURES[name][0]: _text(MEASURES[name][1], device.noisy.get(name)) for name in names}
        rows.insert(0, ("noisy input", *(shown.get(column, "") for column in columns)))
    return Table(("variant", *columns), tuple(rows))


def check_table(checks: Sequence[Check]) -> Table:
    """Return the table of the limits that `edgedenoise test` checked."""
    rows = [
        (
            " ".join(filter(None, (one.variant, one.name))),
            "passed" if one.passed else "failed",
            NO_VALUE if one.value is None else f"{one.value:.4g} {one.unit}",
            NO_VALUE
            if one.limit is None
            else f"{'at least' if one.at_least else 'at most'} {one.limit:.4g} {one.unit}",
            one.image,
        )
        for one in checks
    ]
    return Table(("check", "outcome", "measured", "limit", "image"), tuple(rows))


def _interval(one: VariantSummary) -> str:
    if one.change is None or one.change.interval is None:
        return NO_VALUE
    return f"{one.change.interval.low:+.3f} to {one.change.interval.high:+.3f}"


def _text(form: str, value: float | None) -> str:
    return NO_VALUE if value is None else form.format(value)


def _db(value: float | None) -> str:
    return "equal" if value is not None and value >= EQUAL_DB else _text("{:.1f}", value)


def _megabytes(value: int | None) -> str:
    return NO_VALUE if value is None else f"{value / 2**20:.0f}"
