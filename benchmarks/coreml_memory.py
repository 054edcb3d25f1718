"""Estimate the memory of a Core ML package's activations by tile size: `python benchmarks/coreml_memory.py`.

The memory is computed and not measured: a package is built for each tile and precision, its saved program is read, and
the largest sum of values that are alive at the same time is taken. A device adds weights, its own buffers and copies;
fused operators save some. A Markdown table goes to standard output.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import check_out, markdown_table, parser_of, run_benchmark, write_results

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.exporting.coreml.emulation import program_of
from edgedenoise.runtimes.coreml.backend import package_of
from edgedenoise.runtimes.job import BuildOptions

TILES_PX = (128, 256, 512, 1024)
PRECISIONS = ("fp32", "fp16")
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "int32": 4}


def peak_bytes(operations: list[Any], dtype_of: Any) -> int:
    """Compute the largest sum of sizes of values that are alive together, including the input."""
    size = {var.name: int(np.prod(var.shape)) * _BYTES[dtype_of(var)] for op in operations for var in op.outputs}
    inputs = [
        [one for var in op.inputs.values() for one in (var if isinstance(var, (list, tuple)) else [var])]
        for op in operations
    ]
    last = {var.name: at for at, read in enumerate(inputs) for var in read if var is not None}
    image = next(var for read in inputs for var in read if var is not None and var.name == "image")
    alive = {"image": int(np.prod(image.shape)) * 4}
    peak = 0
    for at, op in enumerate(operations):
        alive |= {var.name: size[var.name] for var in op.outputs if "constexpr" not in op.op_type}
        peak = max(peak, sum(alive.values()))
        alive = {name: held for name, held in alive.items() if last.get(name, at) > at}
    return peak


def measure(path: Path) -> dict[str, dict[int, int]]:
    """Compute the peak in bytes by precision and tile."""
    found: dict[str, dict[int, int]] = {precision: {} for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(shutil.copytree(path, Path(scratch) / "net.edge"))
        for precision in PRECISIONS:
            for tile in TILES_PX:
                edgedenoise.compile(root, target="coreml", precision=precision, options=BuildOptions(tile=tile))
                bundle = Bundle.open(root)
                variant = bundle.variant(f"coreml-{precision}")
                found[precision][tile] = peak_bytes(*program_of(package_of(bundle.variant_file(variant))))
    return found


def main() -> None:
    parser = parser_of(__doc__, "coreml_memory")
    parser.add_argument("bundles", nargs="*", type=Path, help="bundle folders; default: the shipped edge-tiny and edge")
    options = parser.parse_args()
    check_out(options.out, "coreml_memory")
    found = {path.stem: measure(path) for path in options.bundles or [shipped("edge-tiny"), shipped("edge")]}
    print("Activations alive at the same time, MB:\n")
    header = ["network", *(f"{precision}, tile {tile}" for precision in PRECISIONS for tile in TILES_PX)]
    rows = [
        [name, *(f"{peak / 1e6:.1f}" for tiles in peaks.values() for peak in tiles.values())]
        for name, peaks in found.items()
    ]
    print(markdown_table(header, rows))
    write_results(options.out, "coreml_memory", {"peak_bytes": found}, ["coremltools"])


if __name__ == "__main__":
    run_benchmark(main)
