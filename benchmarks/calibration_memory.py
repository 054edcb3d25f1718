"""Measure the memory of calibration against the number of crops: `python benchmarks/calibration_memory.py`.

Ranges are measured one crop at a time, so 10,000 crops should need little more memory than 100: only the list of crops
grows. Each row is measured in a process of its own, because the peak memory of a process never falls. Without
`--photos`, a few images of one megapixel are generated. Crops are small, so that only their number counts.
The exit code is 1 when the memory grows by more than the limit.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import check_out, in_new_process, parser_of, run_benchmark, write_results

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.strata import MODES, Stratify
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.tables import table

COUNTS = (100, 10_000)
CROP_PX = 16
GENERATED, SIDE_PX = 8, 1024
LIMIT_MB = 300


def write_photos(folder: Path, count: int, side_px: int) -> None:
    """Write images of smooth shapes with noise."""
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = 120 + 80 * np.sin(rng.uniform(3, 30, 3) * x[..., None] + rng.uniform(3, 30, 3) * y[..., None])
        noisy = clean + rng.normal(0, 2 + 2 * seed, clean.shape)
        write_image(Image(np.clip(noisy, 0, 255).astype(np.uint8)), folder / f"{seed}.png")


def measure(bundle_path: str, photos: str, count: int, stratify: Stratify) -> tuple[float, float]:
    """Measure (seconds, growth of the peak memory in bytes) of calibrating a copy of a bundle.

    A first calibration, on one tiny image, loads packages, so that they do not count.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work, tiny = Path(scratch) / "work.edge", Path(scratch) / "tiny"
        shutil.copytree(Bundle.open(bundle_path).root, work)
        write_photos(tiny, 1, 2 * CROP_PX)
        edgedenoise.calibrate(work, tiny, count=2, crop_px=CROP_PX)
        before = peak_rss_bytes() or 0
        start = time.perf_counter()
        edgedenoise.calibrate(work, photos, count=count, crop_px=CROP_PX, stratify=stratify)
        return time.perf_counter() - start, (peak_rss_bytes() or 0) - before


def main() -> None:
    parser = parser_of(__doc__, "calibration_memory")
    parser.add_argument("bundle", nargs="?", default="edge-tiny", help="bundle to calibrate a copy of")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="noisy images; default: generated ones")
    options = parser.parse_args()
    check_out(options.out, "calibration_memory")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = options.photos or Path(scratch)
        if options.photos is None:
            write_photos(photos, GENERATED, SIDE_PX)
        for stratify in MODES:
            for count in COUNTS:
                seconds, growth = in_new_process(measure, options.bundle, str(photos), count, stratify)
                rows.append({"stratify": stratify, "crops": count, "seconds": seconds, "growth_mb": growth / 2**20})
    print(f"{options.bundle}, crops of {CROP_PX} pixels, images: {options.photos or 'generated'}")
    cells = [[r["stratify"], str(r["crops"]), f"{r['seconds']:.1f}", f"{r['growth_mb']:.1f}"] for r in rows]
    print(table(["stratify", "crops", "seconds", "growth MB"], cells))
    most = max(row["growth_mb"] for row in rows)
    print(f"largest growth {most:.0f} MB, limit {LIMIT_MB} MB: {'passed' if most <= LIMIT_MB else 'FAILED'}")
    found = {"bundle": options.bundle, "crop_px": CROP_PX, "photos": str(options.photos or "generated"), "rows": rows}
    write_results(options.out, "calibration_memory", found)
    if most > LIMIT_MB:
        sys.exit(1)


if __name__ == "__main__":
    run_benchmark(main)
