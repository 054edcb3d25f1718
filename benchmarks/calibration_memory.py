"""Memory of calibrating against the number of crops: `python benchmarks/calibration_memory.py [B.edge] [PHOTOS]`.

Ranges are measured streaming, so that a set of 10,000 crops should need hardly more memory than one of 100: what
may grow is the list of crops itself. Each row is a process of its own, because peak memory never falls. Without
PHOTOS, a few images of one megapixel are made up: crops are small, so that the number counts and not the size.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.strata import MODES, Stratify
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.tables import table

COUNTS = (100, 10_000)
CROP_PX = 16
MADE, SIDE_PX = 8, 1024
LIMIT_MB = 300


def make_photographs(folder: Path, count: int, side_px: int) -> None:
    """Write a few images of smooth shapes under noise."""
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = 120 + 80 * np.sin(rng.uniform(3, 30, 3) * x[..., None] + rng.uniform(3, 30, 3) * y[..., None])
        noisy = clean + rng.normal(0, 2 + 2 * seed, clean.shape)
        write_image(Image(np.clip(noisy, 0, 255).astype(np.uint8)), folder / f"{seed}.png")


def measure(bundle_path: str, photographs: str, count: int, stratify: Stratify) -> tuple[float, float]:
    """Return (seconds, growth of the peak memory in bytes) of calibrating a copy of a bundle.

    A first calibration, on one tiny image, loads packages, which are no part of the growth.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work, tiny = Path(scratch) / "work.edge", Path(scratch) / "tiny"
        shutil.copytree(Bundle.open(bundle_path).root, work)
        make_photographs(tiny, 1, 2 * CROP_PX)
        edgedenoise.calibrate(work, tiny, count=2, crop_px=CROP_PX)
        before = peak_rss_bytes() or 0
        start = time.perf_counter()
        edgedenoise.calibrate(work, photographs, count=count, crop_px=CROP_PX, stratify=stratify)
        return time.perf_counter() - start, (peak_rss_bytes() or 0) - before


def main() -> None:
    bundle = sys.argv[1] if len(sys.argv) > 1 else "edge-tiny"
    rows, growths = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        photographs = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch)
        if photographs == Path(scratch):
            make_photographs(photographs, MADE, SIDE_PX)
        for stratify in MODES:
            for count in COUNTS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seconds, growth = pool.apply(measure, (bundle, str(photographs), count, stratify))
                growths[stratify, count] = growth / 2**20
                rows.append([stratify, str(count), f"{seconds:.1f}", f"{growth / 2**20:.1f}"])
    print(f"{bundle}, crops of {CROP_PX} pixels, images: {sys.argv[2] if len(sys.argv) > 2 else 'made up'}")
    print(table(["stratify", "crops", "seconds", "growth MB"], rows))
    most = max(growths.values())
    print(f"largest growth {most:.0f} MB of {LIMIT_MB} MB allowed: {'held' if most <= LIMIT_MB else 'MISSED'}")
    if most > LIMIT_MB:
        sys.exit(1)


if __name__ == "__main__":
    main()
