"""Speed and memory against tile size, per variant of a bundle: `python benchmarks/tiles.py B.edge [SIDE_PX]`.

What `edgedenoise.imaging.tiling` assumes is measured here: that tiles above 512 pixels win little, that the estimate of
memory (`tiling.bytes_per_px`) is of the right size, and that compiling for the tile's shape costs OpenVINO nothing
against dynamic shapes. Each row is a process of its own, because peak memory never falls; times are ratios to the
first row of the same variant, measured in one run.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.tiling import WHOLE, plan_tiles, tile_bytes
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

TILES_PX = (512, 1024, WHOLE, 256, 128)
REPEATS = 3


def measure(bundle_path: str, name: str, tile: int, side_px: int) -> tuple[float, int]:
    """Return (milliseconds per megapixel, growth of the peak memory in bytes)."""
    bundle = Bundle.open(bundle_path)
    manifest = bundle.manifest
    image = np.random.default_rng(0).random((3, side_px, side_px), np.float32)
    with open_variant(bundle, bundle.variant(name), selftest=False) as session:
        run_image(session, image[:, :64, :64], manifest.normalization, manifest.tiling)
        before = peak_rss_bytes() or 0
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            run_image(session, image, manifest.normalization, manifest.tiling, tile=tile)
            times.append(time.perf_counter() - start)
        return min(times) * 1000 / (side_px**2 / 1e6), (peak_rss_bytes() or 0) - before


def dynamic_against_static(bundle: Bundle, name: str) -> float:
    """Return OpenVINO's time with symbolic sides over its time compiled for the shape, one 540x540 tile."""
    import openvino

    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = core.read_model(bundle.variant_file(bundle.variant(name)))
    x = np.random.default_rng(0).standard_normal((1, 3, 540, 540), np.float32)
    requests = []
    for shape in ([1, 3, -1, -1], [1, 3, 540, 540]):
        model.reshape({"image": shape})
        requests.append(core.compile_model(model, "CPU", config).create_infer_request())
    ratios = []
    for _ in range(7):
        times = []
        for request in requests:
            start = time.perf_counter()
            request.infer({"image": x})
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios[1:]))


def main() -> None:
    path, side_px = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1536
    bundle = Bundle.open(Path(path))
    tiling = bundle.manifest.tiling
    rows = []
    for variant in bundle.manifest.variants:
        first = 0.0
        for tile in TILES_PX:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                ms, growth = pool.apply(measure, (path, variant.name, tile, side_px))
            first = first or ms
            height, width = plan_tiles(side_px, side_px, tiling, tile).input_shape
            estimate = tile_bytes(side_px, side_px, tiling, tile)
            rows.append(
                [variant.name, str(tile or "whole"), f"{height}x{width}", f"{ms:.0f}", f"{ms / first:.2f}",
                 f"{growth / 2**20:.0f}", f"{estimate / 2**20:.0f}"]
            )  # fmt: skip
    print(table(["variant", "tile", "input", "ms/MP", "against 512", "growth MB", "estimate MB"], rows))
    for variant in bundle.manifest.variants:
        if variant.runtime == "openvino":
            ratio = dynamic_against_static(bundle, variant.name)
            print(f"{variant.name}: dynamic shapes take {ratio:.2f} of the time of static ones")


if __name__ == "__main__":
    main()
