"""Measure what files cost around the network: `python benchmarks/files.py edge-tiny`.

Denoises a folder of noisy JPEG files with `denoise_files`, which reads and writes beside the network, and the same
images in memory with `run_image` alone. Both take turns, and the quickest turn of each counts. The ratio is what
decoding, conversion and encoding add to the network.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import (
    check_out,
    markdown_table,
    note,
    page_parser_of,
    positive,
    run_benchmark,
    write_results,
    write_table,
)

from edgedenoise.batch.run import denoise_files
from edgedenoise.denoiser import load
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.saving import SaveOptions
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.opening import open_model, open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

NOISE = 12.0


class Clock(NamedTuple):
    """Seconds on the wall, and of work on all cores: on a busy machine the second one can be compared."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Clock) -> Clock:  # type: ignore[override]
        return Clock(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)


def make_files(folder: Path, count: int, megapixels: float) -> list[Path]:
    """Write JPEG files of 4 to 3, with waves and noise, as a camera would store them."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 128 + 60 * np.sin(x / 90) + 40 * np.cos(y / 70)
    paths = []
    for number in range(count):
        noise = rng.standard_normal((height, width, 3), np.float32) * NOISE
        pixels = np.clip(waves[..., None] + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:03}.jpg")
        write_image(Image(pixels), paths[-1], SaveOptions(quality=92))
    return paths


def time_network(paths: list[Path], model: str, variant: str, tile: int, threads: int | None) -> Clock:
    """Measure the time that the network alone takes for all images, tiles included."""
    bundle = open_model(Path(model))
    manifest = bundle.manifest
    options = SessionOptions(threads=threads)
    taken = Clock(0, 0)
    with open_variant(bundle, bundle.variant(variant), options=options, selftest=False) as session:
        for path in paths:
            pixels = np.ascontiguousarray(read_image(path).unit().transpose(2, 0, 1))
            start = Clock.now()
            run_image(session, pixels, manifest.input_normalization, manifest.tiling, tile=tile)
            taken += Clock.now() - start
    return taken


def time_files(folder: Path, model: str, threads: int | None) -> Clock:
    """Measure the time of a run over the files, without opening the model."""
    stamps: list[Clock] = []

    def stamp(*_: object) -> None:
        stamps.append(Clock.now())

    with tempfile.TemporaryDirectory() as out:
        report = denoise_files(
            [folder],
            out,
            model,
            threads=threads,
            progress=stamp,
        )
        if report.failures:
            raise report.failures[0].error or SystemExit(1)
    return stamps[-1] - stamps[0]


def main() -> None:
    parser = page_parser_of(__doc__, "files")
    parser.add_argument("model", help="a bundle, or the name of a shipped one")
    parser.add_argument("--count", type=positive, default=20, metavar="N", help="number of images")
    parser.add_argument("--megapixels", type=float, default=12.0, metavar="MP", help="size of each image")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of one inference")
    parser.add_argument("--repeats", type=positive, default=2, metavar="N", help="turns of each kind")
    options = parser.parse_args()
    check_out(options.out, "files")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_files(folder, options.count, options.megapixels)
        with load(options.model, threads=options.threads) as denoiser:
            denoiser(read_image(paths[0]))
            variant, tile = denoiser.last_variant.name, denoiser.last_tile or 0
        network: list[Clock] = []
        files: list[Clock] = []
        for turn in range(options.repeats):
            network.append(time_network(paths, options.model, variant, tile, options.threads))
            files.append(time_files(folder, options.model, options.threads))
            note(f"turn {turn + 1}: network {network[-1].wall:.1f} s, files {files[-1].wall:.1f} s")
    rows = []
    for kind in Clock._fields:
        alone, whole = (min(getattr(turn, kind) for turn in turns) for turns in (network, files))
        rows.append([kind, f"{alone:.1f}", f"{whole:.1f}", f"{whole / alone:.3f}"])
    header = ["seconds", "network", "files", "ratio"]
    about = f"{variant}, tiles of {tile or 'all'} pixels, {options.count} JPEG files of {options.megapixels:g} MP"
    print(f"{about}\n{table(header, rows)}")
    results = {"variant": variant, "tile": tile, "network": network, "files": files}
    path = write_results(
        options.out, "files", {"count": options.count, "megapixels": options.megapixels, **results}, ["pillow"]
    )
    if options.page is not None:
        write_table(options.page, path, f"{about}:\n\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    run_benchmark(main)
