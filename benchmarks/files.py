"""Measure what is around the network: `python benchmarks/files.py edge-tiny`.

Four ways take turns for the same images, so that other work on the machine slows all of them down alike:

- bare: the network alone, on the pixels of the image, in blocks without margins;
- network: the network on tiles with their margins, as a call runs it;
- call: a call of the `Denoiser` with the stored pixels, as Python users do;
- files: `denoise_files` with a folder of JPEG files, which reads and writes beside the network.

The quickest turn of each counts. The ratios are what margins, conversion, and decoding and encoding add.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
from edgedenoise.bundles.pretrained import resolve
from edgedenoise.denoiser import load_variant
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.saving import SaveOptions
from edgedenoise.imaging.tiling import plan_tiles
from edgedenoise.runtimes.choosing import choose
from edgedenoise.runtimes.opening import open_model
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.imaging.tiling import Tiling

NOISE = 12.0
RATIOS = (("call", "bare"), ("call", "network"), ("files", "network"))


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


def rounded(size: int, tiling: Tiling) -> int:
    """Return a number of rows or columns rounded down to what the network accepts."""
    return size // tiling.multiple_of * tiling.multiple_of


def time_in_memory(denoiser: Denoiser, paths: list[Path]) -> dict[str, Clock]:
    """Measure the time of all images in memory: of the bare network, of the network on tiles, and of calls."""
    manifest, session = denoiser.bundle.manifest, denoiser.session
    taken = dict.fromkeys(("bare", "network", "call"), Clock(0, 0))
    for path in paths:
        image = read_image(path)
        pixels = np.ascontiguousarray(image.unit().transpose(2, 0, 1))
        tile = denoiser.last_tile or max(pixels.shape)
        plan = plan_tiles(*pixels.shape[1:], manifest.tiling, tile)
        height, width = plan.tile_height, plan.tile_width
        even = pixels[:, : rounded(pixels.shape[1], manifest.tiling), : rounded(pixels.shape[2], manifest.tiling)]
        blocks = [
            np.ascontiguousarray(even[None, :, y : y + height, x : x + width])
            for y in range(0, even.shape[1], height)
            for x in range(0, even.shape[2], width)
        ]
        share = pixels.size / even.size  # the last rows and columns are left out where their number is odd

        def bare(blocks: list[NDArray[np.float32]] = blocks) -> None:
            for block in blocks:
                session.run(block)

        def network(pixels: NDArray[np.float32] = pixels, tile: int = tile) -> None:
            run_image(session, pixels, manifest.input_normalization, manifest.tiling, tile=tile)

        def call(image: Image = image) -> None:
            denoiser(image)

        for name, run in (("bare", bare), ("network", network), ("call", call)):
            start = Clock.now()
            run()
            spent = Clock.now() - start
            taken[name] += Clock(*(value * share for value in spent)) if name == "bare" else spent
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
    turns: dict[str, list[Clock]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_files(folder, options.count, options.megapixels)
        bundle = open_model(resolve(options.model))
        variant = choose(bundle).variant.name
        with load_variant(bundle, variant, threads=options.threads) as denoiser:
            denoiser(read_image(paths[0]))
            tile = denoiser.last_tile or 0
            for turn in range(options.repeats):
                found = time_in_memory(denoiser, paths)
                found["files"] = time_files(folder, options.model, options.threads)
                for name, clock in found.items():
                    turns.setdefault(name, []).append(clock)
                note(f"turn {turn + 1}: " + ", ".join(f"{name} {clock.cpu:.1f} s" for name, clock in found.items()))
    rows = []
    for kind in Clock._fields:
        least = {name: min(getattr(clock, kind) for clock in clocks) for name, clocks in turns.items()}
        ratios = (least[name] / least[base] for name, base in RATIOS)
        rows.append([kind, *(f"{seconds:.1f}" for seconds in least.values()), *(f"{ratio:.3f}" for ratio in ratios)])
    header = ["seconds", *turns, *(" / ".join(pair) for pair in RATIOS)]
    about = f"{variant}, tiles of {tile or 'all'} pixels, {options.count} JPEG files of {options.megapixels:g} MP"
    print(f"{about}\n{table(header, rows)}")
    results = {"variant": variant, "tile": tile, "count": options.count, "megapixels": options.megapixels}
    path = write_results(options.out, "files", {**results, "turns": turns}, ["pillow"])
    if options.page is not None:
        write_table(options.page, path, f"{about}:\n\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    run_benchmark(main)
