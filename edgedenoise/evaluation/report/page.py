"""Reports: the tables that commands print, and one HTML page with images, beside the same numbers as JSON."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.evaluation.compare import CompareReport, compare
from edgedenoise.evaluation.report.layer_chart import plan_charts
from edgedenoise.extras import missing_package
from edgedenoise.files import check_writable, write_bytes
from edgedenoise.imaging.files import list_images, read_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.pillow import to_pil
from edgedenoise.progress import Progress, silent
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedenoise.evaluation.bench import Measurement
    from edgedenoise.evaluation.compare import Row

CROP_PX = 176
SHOWN_PHOTOGRAPHS = 4


@dataclass(frozen=True)
class Crop:
    """One image of the page."""

    caption: str
    source: str
    """PNG as a data URI: the page is one file that can be sent to somebody."""


@dataclass(frozen=True)
class CropRow:
    """The same place of one image: before, each variant, and the ground truth when there is one."""

    photograph: str
    crops: tuple[Crop, ...]


def compare_to_html(
    bundle: Path | str,
    noisy: Path | str,
    clean: Path | str | None,
    out: Path | str,
    *,
    keep: Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> CompareReport:
    """Compare and write `out` (HTML) and the same numbers beside it as `.json`.

    Args:
        bundle: as `compare`.
        noisy: as `compare`.
        clean: as `compare`.
        out: the HTML file to write.
        keep: folder for the denoised images; None to not keep them.
        progress: as `compare`.
        **options: `repeats`, `device` and `threads` of `compare`.

    Raises:
        RuntimeUnavailableError: jinja2 is not installed.
        EdgeDenoiseError: as `compare`.
    """
    template = _template()  # before the work: a missing package or a wrong output should not cost minutes
    check_writable(Path(out))
    with tempfile.TemporaryDirectory() as folder:
        kept = keep or Path(folder)
        report = compare(bundle, noisy, clean, keep=kept, progress=progress, **options)
        rows = _crop_rows(report, Path(noisy), None if clean is None else Path(clean), kept)
    plans = plan_charts(Bundle.open(bundle))
    page = template.render(report=report, crop_rows=rows, table=html_rows(report), plans=plans)
    write_bytes(Path(out), page.encode())
    numbers = msgspec.json.format(msgspec.json.encode(report), indent=1)
    write_bytes(Path(out).with_suffix(".json"), numbers + b"\n")
    return report


def compare_table(report: CompareReport) -> str:
    """Lay out a comparison for a terminal."""
    header = ["variant", "PSNR dB", "SSIM", "to float dB", "max levels", "finite", *_SPEED_HEADER]
    rows = [
        [
            row.measurement.variant,
            "-" if row.quality is None else f"{row.quality.psnr_db:.2f}",
            "-" if row.quality is None else f"{row.quality.ssim:.4f}",
            _fidelity_db(row),
            "-" if row.fidelity is None else str(row.fidelity.max_levels),
            _finite(row),
            *_speed_cells(row.measurement),
        ]
        for row in report.rows
    ]
    lines = []
    if report.noisy is not None:
        quality = report.noisy
        rows.insert(0, ["noisy input", f"{quality.psnr_db:.2f}", f"{quality.ssim:.4f}"] + ["-"] * (len(header) - 3))
    lines.append(table(header, rows))
    lines.append(
        f"{len(report.photographs)} images, {report.megapixels:.1f} MP; latency on a"
        f" {report.timed_px[0]}x{report.timed_px[1]} crop, {report.repeats} interleaved runs"
    )
    return "\n".join([*lines, *_remarks([row.measurement for row in report.rows])])


def _device(measurement: Measurement) -> str:
    if not measurement.runtime_version:
        return f"{measurement.runtime}: did not run"
    return f"{measurement.runtime} {measurement.runtime_version}, {measurement.detail}"


def _finite(row: Row) -> str:
    if not row.finite:
        return "NO"
    return "-" if row.measurement.error else "yes"  # what gave no answer gave no finite one either


def bench_table(measurements: Sequence[Measurement]) -> str:
    """Lay out measurements of speed for a terminal."""
    rows = [[m.variant, *_speed_cells(m)] for m in measurements]
    return "\n".join([table(["variant", *_SPEED_HEADER], rows), *_remarks(measurements)])


def html_rows(report: CompareReport) -> list[dict[str, str]]:
    """Return what the page's table shows, one mapping of column to text per variant."""
    return [
        {
            "variant": row.measurement.variant,
            "quality": "-" if row.quality is None else f"{row.quality.psnr_db:.2f} / {row.quality.ssim:.4f}",
            "gain": _gain(report, row),
            "fidelity": "reference" if row.measurement.variant == FLOAT_VARIANT else _fidelity_db(row),
            "levels": "-" if row.fidelity is None else str(row.fidelity.max_levels),
            "finite": _finite(row),
            **dict(
                zip(
                    ("p50", "p90", "p99", "speed", "load", "memory", "size"),
                    _speed_cells(row.measurement),
                    strict=True,
                )
            ),
            "remark": (row.measurement.error or "").replace("\n", "; ") or _verdict(row.measurement),
            "device": _device(row.measurement),
        }
        for row in report.rows
    ]


_SPEED_HEADER = ["p50 ms/MP", "p90", "p99", "vs float", "load ms", "peak MB", "size KB"]


def _speed_cells(m: Measurement) -> list[str]:
    latency = m.latency
    times = (
        ["-"] * 3
        if latency is None
        else [f"{v:.0f}" for v in (latency.p50_ms_per_mp, latency.p90_ms_per_mp, latency.p99_ms_per_mp)]
    )
    return [
        *times,
        "-" if m.speed_vs_float is None else f"{m.speed_vs_float:.2f}x",
        "-" if m.load_ms is None else f"{m.load_ms:.0f}",
        "-" if m.peak_rss_bytes is None else f"{m.peak_rss_bytes / 2**20:.0f}",
        f"{m.size_bytes / 1024:.0f}",
    ]


def _remarks(measurements: Sequence[Measurement]) -> list[str]:
    lines = [f"{m.variant}: {_verdict(m)}" for m in measurements if m.mark]
    return lines + [f"{m.variant} has no numbers: {m.error}" for m in measurements if m.error]


def _verdict(m: Measurement) -> str:
    """Say that a variant is not worth it here, and why; nothing about one that is."""
    if not m.mark:
        return ""
    return f"{m.mark}: {m.speed_vs_float:.2f} times as fast as float on {m.runtime}; {m.slower_because}"


def _fidelity_db(row: Row) -> str:
    if row.fidelity is None:
        return "-"
    return "equal" if row.fidelity.psnr_db >= 1e9 else f"{row.fidelity.psnr_db:.1f}"


def _gain(report: CompareReport, row: Row) -> str:
    if report.noisy is None or row.quality is None:
        return "-"
    return f"{row.quality.psnr_db - report.noisy.psnr_db:+.2f}"


def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))


def _crop_rows(report: CompareReport, noisy: Path, clean: Path | None, kept: Path) -> list[CropRow]:
    """Cut the same, most detailed place out of the input, each variant's answer and the truth."""
    names = report.photographs
    count = min(SHOWN_PHOTOGRAPHS, len(names))
    shown = [names[round(i * (len(names) - 1) / max(1, count - 1))] for i in range(count)]
    truths = {} if clean is None else {path.stem: path for path in list_images(clean)}
    rows = []
    for name in dict.fromkeys(shown):
        stem = Path(name).stem
        sources = [("noisy input", noisy / name)]
        for row in report.rows:
            path = kept / row.measurement.variant / f"{stem}.png"
            if path.is_file():
                sources.append((row.measurement.variant, path))
        if stem in truths:
            sources.append(("ground truth", truths[stem]))
        guide = read_image(sources[1][1] if len(sources) > 1 else sources[0][1]).unit()
        y, x = _detailed_place(guide)
        crops = [
            Crop(caption, _data_uri(read_image(path).unit()[y : y + CROP_PX, x : x + CROP_PX]))
            for caption, path in sources
        ]
        rows.append(CropRow(name, tuple(crops)))
    return rows


def _detailed_place(unit: NDArray[np.float32]) -> tuple[int, int]:
    """Return (y, x) of the crop with the most contrast, of a grid of candidates."""
    height, width = unit.shape[:2]
    gray = unit.mean(axis=2)
    candidates = [
        (y, x)
        for y in range(0, max(1, height - CROP_PX + 1), CROP_PX // 2)
        for x in range(0, max(1, width - CROP_PX + 1), CROP_PX // 2)
    ]
    return max(candidates, key=lambda place: _contrast(gray, *place))


def _contrast(gray: NDArray[np.float32], y: int, x: int) -> float:
    return float(gray[y : y + CROP_PX, x : x + CROP_PX].std())


def _data_uri(unit: NDArray[np.float32]) -> str:
    stream = io.BytesIO()
    to_pil(Image(from_unit(unit, np.uint8))).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
