"""Train and measure the estimator of noise levels: `python benchmarks/level_estimator.py train|measure`.

`train` writes weights in the format of `edgedenoise/noise/level_estimator.npz`. It learns from clean photos with
synthetic noise: 16x16 blocks first, then whole images, of which the blocks give features. `--choosing N` keeps N more
photos aside and reports the error on them with kinds of noise that the training does not contain; choose between
trainings by it, and not by the sets of `measure`.

`measure` compares the estimated with the true noise of images with ground truth, as root mean squares over the image.
"""

# ruff: noqa: E402 - the number of threads is set before numpy is loaded

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import DATA, check_out, markdown_table, note, parser_of, positive, run_benchmark, write_results
from image_sets import SETS, chosen_sets

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.imaging.image import to_unit
from edgedenoise.noise.level_estimator import LevelEstimator
from edgedenoise.tables import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from numpy.typing import NDArray

RATIO = 1.25
"""An estimate is right when it is at most this factor away from the truth."""
HELD_OUT = 6
"""Number of photos that only `measure` sees."""
LEVELS = (20, 26, 32, 38, 42)
MEASURED = (
    "polyu_test", "sidd_dev", *(f"{name}_{db}" for name in ("free", "polyu_means", "kodak24") for db in LEVELS),
)  # fmt: skip


@dataclass(frozen=True)
class Ratios:
    """Estimated noise in units of the true noise, over the images of a set."""

    name: str
    images: int
    true_lsb: float
    """Mean of the true root mean square, in 8-bit levels."""
    low: float
    """10th percentile of the ratio."""
    median: float
    high: float
    """90th percentile of the ratio."""
    right: float
    """Share of the images whose ratio lies within `RATIO`."""
    ms_per_mp: float
    """CPU time of the estimate."""


def ratios(
    name: str, estimator: LevelEstimator, pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> Ratios:
    """Compare the estimated with the true noise of (noisy, clean) images in [0, 1]."""
    found, true, seconds, pixels = [], [], 0.0, 0.0
    for noisy, clean in pairs:
        start = time.process_time()
        curve = estimator.curve(noisy)
        seconds += time.process_time() - start
        pixels += noisy.shape[0] * noisy.shape[1] / 1e6
        truth = float(np.sqrt(np.square(noisy - clean).mean()))
        if truth > 0:
            found.append(float(np.sqrt(np.square(curve.map(noisy)).mean())) / truth)
            true.append(255 * truth)
    low, median, high = (float(q) for q in np.percentile(found, [10, 50, 90]))
    right = float(np.mean(np.abs(np.log(found)) < np.log(RATIO)))
    return Ratios(name, len(found), float(np.mean(true)), low, median, high, right, 1000 * seconds / pixels)


def train(options: argparse.Namespace) -> None:
    """Train both networks, and report the ratios on the photos for choosing."""
    import torch
    from level_noise import SIDES, camera_config, choosing_images, split_photos, training_images
    from level_training import Fit, absolute, block_pool, fitted, image_pool, laplace

    torch.set_num_threads(1)
    check_writable(options.weights)
    seed, config = options.seed, camera_config(options.clean)
    learned, chosen = split_photos(options.clean, HELD_OUT, options.choosing)
    note(f"{len(learned)} photos to learn from, {len(chosen)} for choosing")
    pool = block_pool(training_images(learned, config, options.tiles, 4 * seed, SIDES[:1]))
    other = block_pool(training_images(chosen, config, max(60, options.tiles // 15), 4 * seed + 1, SIDES[:1]))
    note(f"{time.process_time():.0f} CPU s: {len(pool.target)} blocks")
    block = fitted(pool, other, Fit((options.width,) * 2, 2, options.steps, 2048, 0.0, laplace, seed))
    pool = image_pool(block, training_images(learned, config, options.images, 4 * seed + 2))
    other = image_pool(block, training_images(chosen, config, max(200, options.images // 6), 4 * seed + 3))
    before = float(np.abs(other.target).mean())
    note(f"{time.process_time():.0f} CPU s: {len(pool.target)} images, error without correction {before:.3f}")
    image = fitted(pool, other, Fit((24,), 1, options.steps // 3, 256, 0.1, absolute, seed))
    estimator = LevelEstimator(block, image)
    estimator.save(options.weights)
    note(f"{time.process_time():.0f} CPU s: wrote {options.weights}")
    judged = [
        ratios("noise as learned", estimator, training_images(chosen, config, 200, 90)),
        ratios("other noise", estimator, choosing_images(chosen, config, 200, 91)),
    ]
    print(text(judged))


def measure(options: argparse.Namespace) -> None:
    """Measure on the sets with ground truth, and write the results and, if a page is named, its table."""
    check_out(options.out, "level_estimator")
    estimator = LevelEstimator.read(options.weights) if options.weights else LevelEstimator.shipped()
    rows = []
    for one in options.sets:
        pairs = ((to_unit(noisy), to_unit(clean)) for noisy, clean in one.read(options.every))
        rows.append(ratios(one.name, estimator, pairs))
        print(text(rows[-1:]).splitlines()[-1], flush=True)
    print("", text(rows), sep="\n")
    write_results(options.out, "level_estimator", rows)
    if options.page is not None:
        write_bytes(options.page, page_with(options.page.read_text(encoding="utf-8"), rows).encode())


BEGIN, END = "<!-- table: level_estimator.py -->\n", "<!-- end of the table -->"
HEADER = ["set", "images", "true LSB", "10 %", "median", "90 %", "right", "CPU ms/MP"]


def page_with(page: str, rows: list[Ratios]) -> str:
    """Return a page with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown_table(HEADER, [cells(row) for row in rows])}\n\n{END}{after}"


def cells(row: Ratios) -> list[str]:
    """Format the cells of a row."""
    return [
        row.name, str(row.images), f"{row.true_lsb:.1f}", f"{row.low:.2f}", f"{row.median:.2f}", f"{row.high:.2f}",
        f"{100 * row.right:.0f} %", f"{row.ms_per_mp:.0f}",
    ]  # fmt: skip


def text(rows: list[Ratios]) -> str:
    """Format rows as a table."""
    return table(HEADER, [cells(row) for row in rows])


def main() -> None:
    parser = parser_of(__doc__, "level_estimator")
    commands = parser.add_subparsers(required=True, metavar="train|measure")
    trained = commands.add_parser("train", help="train the weights", allow_abbrev=False)
    trained.set_defaults(run=train)
    trained.add_argument("--weights", type=Path, required=True, metavar="NPZ", help="file to write")
    trained.add_argument("--clean", type=Path, default=DATA / "free_photos", metavar="DIR", help="clean photos")
    trained.add_argument("--choosing", type=int, default=0, metavar="N", help="photos for choosing; default: 0")
    trained.add_argument("--tiles", type=positive, default=1400, help="images of 256x256 for the blocks")
    trained.add_argument("--images", type=positive, default=1500, help="images for the correction")
    trained.add_argument("--steps", type=positive, default=4000, help="steps of the network of the blocks")
    trained.add_argument("--width", type=positive, default=48, help="channels of the network of the blocks")
    trained.add_argument("--seed", type=int, default=0)
    measured = commands.add_parser("measure", help="measure weights", allow_abbrev=False)
    measured.set_defaults(run=measure)
    measured.add_argument("--weights", type=Path, metavar="NPZ", help="weights; default: the shipped ones")
    default = [SETS[name] for name in MEASURED if name in SETS]
    measured.add_argument(
        "--sets", type=chosen_sets, default=default, metavar="NAME,NAME", help=f"of {', '.join(SETS)}"
    )
    measured.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    measured.add_argument("--page", type=Path, metavar="MD", help="page whose table is replaced")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    run_benchmark(main)
