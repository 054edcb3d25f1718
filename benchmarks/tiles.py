"""Measure speed and memory against the tile size for each variant of a bundle: `python benchmarks/tiles.py B.edge`.

These numbers are the basis of the defaults in `edgedenoise.imaging.tiling`: the time per input pixel hardly depends on
the tile, so larger tiles save what the halo costs, the estimate of memory (`tiling.tile_bytes`) has the right size, and
compiling for the shape of the tile costs OpenVINO nothing against dynamic shapes. Each row is measured in a process of
its own, because the peak memory of a process never falls. Times are processor time on one thread, also given as ratios
to the first row of the same variant.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    check_out,
    in_new_process,
    markdown_table,
    page_parser_of,
    positive,
    run_benchmark,
    write_results,
    write_table,
)

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.tiling import WHOLE, plan_tiles, tile_bytes
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

TILES_PX = (512, 256, 667, 1000, WHOLE)
REPEATS = 3


def measure(bundle_path: str, name: str, tile: int, side_px: int) -> tuple[float, int]:
    """Measure (milliseconds per megapixel, growth of the peak memory in bytes)."""
    bundle = Bundle.open(bundle_path)
    manifest = bundle.manifest
    image = np.random.default_rng(0).random((manifest.input_channels, side_px, side_px), np.float32)
    with open_variant(bundle, bundle.variant(name), options=SessionOptions(threads=1), selftest=False) as session:
        run_image(session, image[:, :64, :64], manifest.input_normalization, manifest.tiling)
        before = peak_rss_bytes() or 0
        times = []
        for _ in range(REPEATS):
            start = time.process_time()
            run_image(session, image, manifest.input_normalization, manifest.tiling, tile=tile)
            times.append(time.process_time() - start)
        return min(times) * 1000 / (side_px**2 / 1e6), (peak_rss_bytes() or 0) - before


def dynamic_against_static(bundle: Bundle, name: str) -> float:
    """Measure the time of OpenVINO with dynamic shapes over its time with static ones, on one 540x540 tile."""
    core = shared_core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = core.read_model(bundle.variant_file(bundle.variant(name)))
    channels = bundle.manifest.input_channels
    x = np.random.default_rng(0).standard_normal((1, channels, 540, 540), np.float32)
    requests = []
    for shape in ([1, channels, -1, -1], [1, channels, 540, 540]):
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
    parser = page_parser_of(__doc__, "tiles")
    parser.add_argument("bundle", type=Path, help="a bundle folder")
    parser.add_argument("--side", type=positive, default=2000, metavar="PX", help="side of the square image")
    options = parser.parse_args()
    check_out(options.out, "tiles")
    bundle, side_px = Bundle.open(options.bundle), options.side
    tiling = bundle.manifest.tiling
    rows: list[dict[str, Any]] = []
    for variant in bundle.manifest.variants:
        for tile in TILES_PX:
            ms, growth = in_new_process(measure, str(options.bundle), variant.name, tile, side_px)
            row = {"variant": variant.name, "tile": tile, "ms_per_mp": ms, "growth_bytes": growth}
            plan = plan_tiles(side_px, side_px, tiling, tile)
            row["input"], row["computed_px"] = plan.input_shape, plan.computed_px
            row["estimate_bytes"] = tile_bytes(side_px, side_px, tiling, tile)
            rows.append(row)
    first: dict[str, float] = {}
    cells = []
    for row in rows:
        ratio = row["ms_per_mp"] / first.setdefault(row["variant"], row["ms_per_mp"])
        shape = "x".join(map(str, row["input"]))
        per_input = row["ms_per_mp"] * side_px**2 / row["computed_px"]
        cells.append(
            [row["variant"], str(row["tile"] or "whole"), shape, f"{row['ms_per_mp']:.0f}", f"{ratio:.2f}",
             f"{per_input:.0f}", f"{row['computed_px'] / side_px**2 - 1:.0%}",
             f"{row['growth_bytes'] / 2**20:.0f}", f"{row['estimate_bytes'] / 2**20:.0f}"]
        )  # fmt: skip
    header = ["variant", "tile", "input", "ms/MP", "against 512", "ms per input MP", "computed twice"]
    header += ["growth MB", "estimate MB"]
    print(table(header, cells))
    openvino = [variant.name for variant in bundle.manifest.variants if variant.runtime == "openvino"]
    ratios = {name: dynamic_against_static(bundle, name) for name in openvino}
    for name, ratio in ratios.items():
        print(f"{name}: dynamic shapes take {ratio:.2f} times the time of static ones")
    results = {"side_px": side_px, "rows": rows, "dynamic_against_static": ratios}
    path = write_results(options.out, "tiles", results)
    if options.page is not None:
        write_table(options.page, path, markdown_table(header, cells))


if __name__ == "__main__":
    run_benchmark(main)
