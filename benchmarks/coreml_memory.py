"""How much memory a Core ML package's activations need, by tile: `python benchmarks/coreml_memory.py B.edge ...`

Computed, not measured: a package is built for each tile and precision, its saved program is read back, and the largest
sum of values that are alive at the same time is taken. A device adds weights, its own buffers and what it keeps twice;
fused operators save some. Markdown goes to stdout.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.exporting.coreml.emulation import program_of
from edgedenoise.runtimes.coreml.backend import package_of
from edgedenoise.runtimes.job import BuildOptions

TILES_PX = (128, 256, 512, 1024)
PRECISIONS = ("fp32", "fp16")
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "int32": 4}


def peak_bytes(operations: list[Any], dtype_of: Any) -> int:
    """Return the largest sum of sizes of values that are alive together, the input included."""
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


def measure(path: Path) -> list[str]:
    cells = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(shutil.copytree(path, Path(scratch) / "net.edge"))
        for precision in PRECISIONS:
            for tile in TILES_PX:
                edgedenoise.compile(root, target="coreml", precision=precision, options=BuildOptions(tile=tile))
                bundle = Bundle.open(root)
                variant = bundle.variant(f"coreml-{precision}")
                operations, dtype_of = program_of(package_of(bundle.variant_file(variant)))
                cells.append(f"{peak_bytes(operations, dtype_of) / 1e6:.1f}")
    return cells


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", help="bundle folders; default: edge-tiny and edge, as shipped")
    given = parser.parse_args(arguments).bundles
    head = ["network", *(f"{precision}, tile {tile}" for precision in PRECISIONS for tile in TILES_PX)]
    sys.stdout.write(f"Activations alive at once, MB:\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}\n")
    try:
        for path in [Path(one) for one in given] or [shipped("edge-tiny"), shipped("edge")]:
            sys.stdout.write(f"| {' | '.join([path.stem, *measure(path)])} |\n")
    except EdgeDenoiseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
