"""Measure time and memory of images from 1 to 400 megapixels: `python benchmarks/scale.py edge`.

Makes an image with waves and noise for each size and format, denoises it from file to file in a process of its own, and
measures the time without opening the model, and the peak of the whole process (resident set). Seconds of all cores can
be compared where the machine is busy with other work. The slope of their logarithm over that of the size is 1 where
time grows like the image. It is fitted from 4 megapixels on, because smaller images mostly take the start of the run.

Rows are kept in `docs/results/size.json`: a run replaces those of its own model, format and size, and writes the tables
of `docs/results/size.md` again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from harness import ROOT, in_new_process, markdown_table, note, parser_of, provenance, run_benchmark, write_results

from edgedenoise.atomic import write_bytes
from edgedenoise.batch.run import denoise_files
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.files import write_rows
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.encoding import JpegEncoding, PngEncoding, TiffEncoding
from edgedenoise.imaging.pixel_rows import PixelRows
from edgedenoise.imaging.row_files import ImageRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIZES: Final = (1.0, 4.0, 12.0, 48.0, 108.0, 400.0)
ENCODINGS: Final = {
    "TIFF": (".tif", TiffEncoding()),
    "PNG": (".png", PngEncoding(1)),
    "JPEG": (".jpg", JpegEncoding(92)),
}
SLOPE_FROM_MP: Final = 4.0
"""Smaller images take as long to start with as to denoise."""
NOISE: Final = 8.0
PAGE: Final = ROOT / "docs" / "results" / "size.md"
BEGIN, END = "<!-- written by benchmarks/scale.py: begin -->", "<!-- written by benchmarks/scale.py: end -->"
_PERIOD_ROWS, _SHIFT_PX = 509, 300


class Row(msgspec.Struct, frozen=True):
    """One measurement."""

    model: str
    format: str
    megapixels: float
    variant: str
    seconds: float
    """On the wall."""
    cpu_seconds: float
    """Of all cores."""
    peak_mb: float
    """Largest resident set of the process, in units of 1e6 bytes."""
    command: str
    date: str
    machine: str


def make_image(megapixels: float) -> ImageRows:
    """Return an image of 4 to 3 with waves and noise, whose rows are computed when they are read."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    x = np.arange(width, dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal((_PERIOD_ROWS, width + _SHIFT_PX, 3), np.float32) * NOISE

    def start(rows: int) -> Iterator[NDArray[Any]]:
        for top in range(0, height, rows):
            y = np.arange(top, min(top + rows, height))
            waves = 128 + 60 * np.sin(x / 90) + 40 * np.cos(y.astype(np.float32) / 70)[:, None]
            shift = top // rows * 37 % _SHIFT_PX
            band = waves[..., None] + noise[y % _PERIOD_ROWS, shift : shift + width]
            yield np.clip(band, 0, 255).astype(np.uint8)

    return ImageRows(PixelRows(height, width, 3, np.dtype(np.uint8), start), Metadata(), "PNG")


def write_image(megapixels: float, format_: str, path: str) -> None:
    """Write an image of a size."""
    write_rows(replace(make_image(megapixels), encoding=ENCODINGS[format_][1]), path)


def measure(path: str, out: str, model: str, threads: int | None) -> tuple[str, float, float, float]:
    """Return the variant, the seconds on the wall and of all cores, and the peak of this process in MB."""
    stamps: list[tuple[float, float]] = []

    def stamp(*_: object) -> None:
        stamps.append((time.perf_counter(), time.process_time()))

    report = denoise_files([path], out, model, threads=threads, progress=stamp)
    if report.failures:
        raise report.failures[0].error or SystemExit(1)
    wall, cpu = (stamps[-1][at] - stamps[0][at] for at in (0, 1))
    return str(report.variant), wall, cpu, (peak_rss_bytes() or 0) / 1e6


def slope(rows: list[Row]) -> float | None:
    """Return the slope of the logarithm of the seconds of all cores over that of the size.

    It is fitted to the rows from `SLOPE_FROM_MP` on that are of the machine of the newest one; None for fewer than 3.
    """
    machine = max(rows, key=lambda row: row.date).machine
    large = [row for row in rows if row.megapixels >= SLOPE_FROM_MP and row.machine == machine]
    if len(large) < 3:
        return None
    x, y = (np.log([getattr(row, name) for row in large]) for name in ("megapixels", "cpu_seconds"))
    return float(np.polyfit(x, y, 1)[0])


def tables(rows: list[Row]) -> str:
    """Return the tables of the page."""
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        formats = [name for name in ENCODINGS if any(row.format == name for row in own)]
        cells = []
        for size in sorted({row.megapixels for row in own}):
            line = [f"{size:g}"]
            for format_ in formats:
                found = next((row for row in own if (row.format, row.megapixels) == (format_, size)), None)
                line += ["", ""] if found is None else [f"{found.cpu_seconds:.1f}", f"{found.peak_mb:.0f}"]
            cells.append(line)
        header = ["MP", *(f"{name}: {what}" for name in formats for what in ("CPU s", "peak MB"))]
        found_slopes = {name: slope([row for row in own if row.format == name]) for name in formats}
        slopes = [f"{name} {value:.2f}" for name, value in found_slopes.items() if value is not None]
        variants = ", ".join(dict.fromkeys(row.variant for row in own))
        main = max(own, key=lambda row: row.date).machine
        machines = main
        for other in dict.fromkeys(row.machine for row in own if row.machine != main):
            cases = ", ".join(f"{row.format} of {row.megapixels:g} MP" for row in own if row.machine == other)
            machines += f"; {cases} on {other}"
        commands = "\n".join(f"    {command}" for command in dict.fromkeys(row.command for row in own))
        text = f"### {model}\n\n{commands}\n\n`{variants}` on {machines}."
        if slopes:
            text += f"\nLog-log slope of the CPU seconds from {SLOPE_FROM_MP:g} MP on: {', '.join(slopes)}."
        parts.append(f"{text}\n\n{markdown_table(header, cells)}")
    return "\n\n".join(parts)


def update_page(new: list[Row]) -> None:
    """Replace measurements by new ones, and write the tables of the page again."""
    path = PAGE.with_suffix(".json")
    old = msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []
    keys = {(row.model, row.format, row.megapixels) for row in new}
    rows = [row for row in old if (row.model, row.format, row.megapixels) not in keys] + new
    rows.sort(key=lambda row: (row.model, list(ENCODINGS).index(row.format), row.megapixels))
    write_bytes(path, json.dumps(msgspec.to_builtins(rows), indent=1).encode() + b"\n")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_bytes(PAGE, f"{before}{BEGIN}\n\n{tables(rows)}\n\n{END}{after}".encode())


def positive_size(text: str) -> float:
    """Convert a command-line argument to a number of megapixels."""
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"expected up to 1000 megapixels, got {text}")
    return value


def main() -> None:
    parser = parser_of(__doc__, "scale")
    parser.add_argument("model", help="a bundle, or the name of a shipped one")
    parser.add_argument("--sizes", type=positive_size, nargs="+", default=SIZES, metavar="MP", help="megapixels")
    parser.add_argument("--formats", nargs="+", choices=ENCODINGS, default=list(ENCODINGS), help="formats of the files")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of one inference")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/results/size.md")
    options = parser.parse_args()
    made = provenance()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.sizes:
            for format_ in options.formats:
                path = Path(scratch) / f"image{ENCODINGS[format_][0]}"
                in_new_process(write_image, size, format_, str(path))
                out = str(Path(scratch) / f"out{path.suffix}")
                variant, wall, cpu, peak = in_new_process(measure, str(path), out, options.model, options.threads)
                about = made.command, made.date, made.environment.cpu
                rows.append(Row(Path(options.model).name, format_, size, variant, wall, cpu, peak, *about))
                note(f"{size:g} MP {format_}: {wall:.1f} s, {cpu:.1f} s of all cores, {peak:.0f} MB at most")
                for file in (path, Path(out)):
                    file.unlink()
    print(tables(rows))
    write_results(options.out, "scale", rows)
    if options.page:
        update_page(rows)


if __name__ == "__main__":
    run_benchmark(main)
