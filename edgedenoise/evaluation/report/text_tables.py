"""Tables of measurements for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.evaluation.compare import EQUAL_DB
from edgedenoise.evaluation.report.summary import summarize_run
from edgedenoise.printable import one_line
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.evaluation.compare import CompareReport, Row
    from edgedenoise.evaluation.measurement import Measurement
    from edgedenoise.evaluation.report.summary import AutoSummary

NO_VALUE = "-"
_NARROW_BENCH = ("variant", "network ms", "call ms", "call ms/MP", "vs float", "load ms", "peak MB")
_NARROW_COMPARE = ("variant", "PSNR dB", "SSIM", "to float dB", "max LSB", "p50 ms/MP", "vs float")


def bench_table(measurements: Sequence[Measurement], *, wide: bool = False) -> str:
    """Format measurements of speed for a terminal.

    Args:
        measurements: one per variant.
        wide: whether to show every column; otherwise the table fits 80 columns.

    Returns:
        The table and a line for every variant that failed or is slower than float.
    """
    cells = [{"variant": m.variant, **_network_cells(m), **_speed_cells(m)} for m in measurements]
    columns = tuple(cells[0]) if wide else _NARROW_BENCH
    return "\n".join([_table(columns, cells), *_remarks(measurements)])


def compare_table(report: CompareReport, *, wide: bool = False) -> str:
    """Format a comparison for a terminal.

    Args:
        report: the comparison.
        wide: whether to show every column; otherwise the table fits 80 columns.

    Returns:
        The table, how it was measured, how many images `denoise` runs on which variant, and a line for every variant
        that failed or is slower than float.
    """
    cells = [_row_cells(report, row) for row in report.rows]
    columns = tuple(cells[0]) if wide else _NARROW_COMPARE
    auto = summarize_run(report.run).auto
    if auto is not None and len(auto.counts) > 1:  # with one variant it is the row of that variant
        cells.append(_auto_cells(report, auto))
    if report.noisy is not None:
        noisy = {"variant": "noisy input", "PSNR dB": f"{report.noisy.psnr_db:.2f}", "SSIM": f"{report.noisy.ssim:.4f}"}
        cells.insert(0, noisy)
    height, width = report.timed_px
    runs = "1 run" if report.repeats == 1 else f"{report.repeats} interleaved runs"
    images = "1 image" if len(report.images) == 1 else f"{len(report.images)} images"
    method = f"{images}, {report.megapixels:.1f} MP; latency at {height}x{width} pixels, {runs}"
    automatic = [] if auto is None else [one_line(auto.sentence)]
    return "\n".join([_table(columns, cells), method, *automatic, *_remarks([row.measurement for row in report.rows])])


def _table(columns: Sequence[str], cells: Sequence[dict[str, str]]) -> str:
    return table(list(columns), [[row.get(name, NO_VALUE) for name in columns] for row in cells])


def _row_cells(report: CompareReport, row: Row) -> dict[str, str]:
    quality, fidelity = row.quality, row.fidelity
    return {
        "variant": row.measurement.variant,
        "PSNR dB": NO_VALUE if quality is None else f"{quality.psnr_db:.2f}",
        "SSIM": NO_VALUE if quality is None else f"{quality.ssim:.4f}",
        "gain dB": _gain(report, row),
        "to float dB": "reference" if row.measurement.variant == FLOAT_VARIANT else _fidelity_db(row),
        "max LSB": NO_VALUE if fidelity is None else str(fidelity.max_error_lsb),
        "finite": _finite(row),
        **_speed_cells(row.measurement),
    }


def _auto_cells(report: CompareReport, auto: AutoSummary) -> dict[str, str]:
    """Return the row of what users get who name no variant."""
    psnr_db, ssim = auto.means.get("psnr_db"), auto.means.get("ssim")
    noisy = report.noisy
    return {
        "variant": "auto",
        "PSNR dB": NO_VALUE if psnr_db is None else f"{psnr_db:.2f}",
        "SSIM": NO_VALUE if ssim is None else f"{ssim:.4f}",
        "gain dB": NO_VALUE if noisy is None or psnr_db is None else f"{psnr_db - noisy.psnr_db:+.2f}",
        "max LSB": NO_VALUE if auto.max_error_lsb is None else f"{auto.max_error_lsb:.0f}",
        "p50 ms/MP": _rounded(auto.ms_per_mp),
        "vs float": NO_VALUE if auto.speed is None else f"{auto.speed:.2f}x",
    }


def _network_cells(m: Measurement) -> dict[str, str]:
    latency, network = m.latency, m.network
    return {
        "network ms": _rounded(None if network is None else network.p50_ms),
        "network ms/MP": _rounded(None if network is None else network.p50_ms_per_mp),
        "network px": NO_VALUE if network is None else f"{network.height_px}x{network.width_px}",
        "call ms": _rounded(None if latency is None else latency.p50_ms),
        "call ms/MP": _rounded(None if latency is None else latency.p50_ms_per_mp),
        "images/s": NO_VALUE if latency is None else f"{latency.images_per_s:.3g}",
        "J": NO_VALUE if m.energy_j is None else f"{m.energy_j:.3g}",
    }


def _speed_cells(m: Measurement) -> dict[str, str]:
    latency = m.latency
    interval = None if latency is None else latency.p50_interval_ms_per_mp
    return {
        "p50 ms/MP": _rounded(None if latency is None else latency.p50_ms_per_mp),
        "95 % of p50": NO_VALUE if interval is None else f"{_rounded(interval[0])}-{_rounded(interval[1])}",
        "p90": _rounded(None if latency is None else latency.p90_ms_per_mp),
        "p95": _rounded(None if latency is None else latency.p95_ms_per_mp),
        "p99": _rounded(None if latency is None else latency.p99_ms_per_mp),
        "vs float": NO_VALUE if m.speed_vs_float is None else f"{m.speed_vs_float:.2f}x",
        "95 %": NO_VALUE if m.speed_interval is None else "{:.2f}-{:.2f}".format(*m.speed_interval),
        "load ms": NO_VALUE if m.load_ms is None else f"{m.load_ms:.0f}",
        "peak MB": NO_VALUE if m.peak_rss_bytes is None else f"{m.peak_rss_bytes / 2**20:.0f}",
        "size KB": f"{m.size_bytes / 1024:.0f}",
    }


def _rounded(value: float | None) -> str:
    """Return milliseconds with three digits."""
    if value is None:
        return NO_VALUE
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _remarks(measurements: Sequence[Measurement]) -> list[str]:
    found = [(m.variant, _remark(m)) for m in measurements]
    return [one_line(f"{variant}: {remark}") for variant, remark in found if remark]


def _remark(m: Measurement) -> str:
    """Return why a variant has no numbers, or why it is better not used here; empty for other variants."""
    if m.error:
        return f"not measured: {m.error}"
    remarks = [m.not_recommended] if m.not_recommended else []
    if m.least_noise_lsb:
        remarks.append(f"denoise runs images with a noise below {m.least_noise_lsb:g} LSB in float instead")
    if m.mark and m.speed_vs_float is not None:
        remarks.append(f"{m.mark}: {m.speed_vs_float:.2f} times as fast as {m.compared_with}; {m.slower_because}")
    return "; ".join(remarks)


def _finite(row: Row) -> str:
    if not row.finite:
        return "NO"
    return NO_VALUE if row.measurement.error else "yes"  # a variant without results has no finite ones


def _fidelity_db(row: Row) -> str:
    if row.fidelity is None:
        return NO_VALUE
    return "equal" if row.fidelity.psnr_db >= EQUAL_DB else f"{row.fidelity.psnr_db:.1f}"


def _gain(report: CompareReport, row: Row) -> str:
    if report.noisy is None or row.quality is None:
        return NO_VALUE
    return f"{row.quality.psnr_db - report.noisy.psnr_db:+.2f}"
