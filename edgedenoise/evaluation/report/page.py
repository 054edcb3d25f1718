"""The HTML report of a comparison: one page with images and tables, and the same numbers as JSON beside it."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import OutputError, UsageError
from edgedenoise.evaluation.compare import CompareReport, compare
from edgedenoise.evaluation.report.layer_chart import PlanChart, plan_charts
from edgedenoise.evaluation.report.text_tables import html_rows
from edgedenoise.extras import missing_package
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.pillow import to_pil
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from edgedenoise.evaluation.compare import CompareOptions

CROP_PX = 176
SHOWN_IMAGES = 4


@dataclass(frozen=True)
class Figure:
    """One crop on the page."""

    caption: str
    source: str
    """PNG as a data URI, so that the page is a single file."""


@dataclass(frozen=True)
class FigureRow:
    """The same crop of one image: the input, each variant's result, and the ground truth if there is one."""

    image: str
    figures: tuple[Figure, ...]


def compare_to_html(
    bundle: Path | str,
    noisy: Path | str,
    clean: Path | str | None,
    out: Path | str,
    *,
    keep: Path | None = None,
    progress: Progress = silent,
    **options: Unpack[CompareOptions],
) -> CompareReport:
    """Run `compare`, and write its report as HTML and, beside it, as JSON.

    Args:
        bundle: as in `compare`.
        noisy: as in `compare`.
        clean: as in `compare`.
        out: the HTML file to write; the JSON file has the same name with the suffix `.json`.
        keep: folder for the denoised images; None to not keep them.
        progress: as in `compare`.
        **options: other options of `compare`.

    Returns:
        The report of `compare`.

    Raises:
        UsageError: `out` does not end in `.html`.
        OutputError: `out` or the JSON file cannot be written, or the JSON file exists and belongs to no report.
        RuntimeUnavailableError: jinja2 is not installed.
        EdgeDenoiseError: as in `compare`.
    """
    template = page_template()  # first, so that a missing package or a wrong output does not cost minutes
    json_file = _checked_json_file(Path(out))
    with tempfile.TemporaryDirectory() as folder:
        kept = keep or Path(folder)
        report = compare(bundle, noisy, clean, keep=kept, progress=progress, **options)
        rows = _figure_rows(report, Path(noisy), None if clean is None else Path(clean), kept)
    write_bytes(Path(out), render(template, report, rows, plan_charts(Bundle.open(bundle))).encode())
    numbers = msgspec.json.format(msgspec.json.encode(report), indent=1)
    write_bytes(json_file, numbers + b"\n")
    return report


def _checked_json_file(out: Path) -> Path:
    """Return the JSON file of a report, after checking that it and the page can be written.

    Raises:
        UsageError: `out` does not end in `.html`.
        OutputError: a file cannot be written, or the JSON file exists and belongs to no report.
    """
    if out.suffix.lower() != ".html":
        raise UsageError(
            f"the report cannot be written to {out}: expected a name that ends in .html, got {out.name}",
            hint=f"Name it {out.with_suffix('.html')}",
        )
    json_file = out.with_suffix(".json")
    if json_file.exists() and not out.exists():
        raise OutputError(
            f"{json_file} exists and belongs to no report, so it is not overwritten",
            hint="Choose another name with -o, or remove it first.",
        )
    for file in (out, json_file):
        check_writable(file)
    return json_file


def render(template: Any, report: CompareReport, rows: Sequence[FigureRow], plans: Sequence[PlanChart]) -> str:
    """Return the HTML of a comparison.

    Args:
        template: what `page_template` returned.
        report: the comparison.
        rows: crops to show.
        plans: charts of the layers of variants that were quantized within a budget.
    """
    page: str = template.render(report=report, figure_rows=rows, table=html_rows(report), plans=plans)
    return page


def page_template() -> Any:
    """Return the jinja2 template of the page.

    Raises:
        RuntimeUnavailableError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))


def _figure_rows(report: CompareReport, noisy: Path, clean: Path | None, kept: Path) -> list[FigureRow]:
    """Cut the same crop, the most detailed one, out of the input, each variant's result and the ground truth."""
    names = report.images
    count = min(SHOWN_IMAGES, len(names))
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
        figures = [
            Figure(caption, _data_uri(read_image(path).unit()[y : y + CROP_PX, x : x + CROP_PX]))
            for caption, path in sources
        ]
        rows.append(FigureRow(name, tuple(figures)))
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
