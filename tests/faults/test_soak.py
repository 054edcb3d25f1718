"""Thousands of images in one process: memory, file handles and threads stay as they are after the first ones.

`make test` denoises some hundred images; `make soak` sets EDGEDENOISE_SOAK to 10,000.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = int(os.environ.get("EDGEDENOISE_SOAK", "320"))
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
BATCH = 40
WARM_UP = 4
"""Batches after which memory is compared: allocators have what they keep by then."""
ACCEPTED = 0.05

SOAK = f"""
import ctypes, gc, os, sys
from pathlib import Path
import numpy as np
import edgedenoise
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

folder, bundle, runtime, batches = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
rng = np.random.default_rng(0)
for number in range({BATCH}):
    height, width = rng.integers(8, 97, 2)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    write_image(Image(pixels), folder / "noisy" / f"{{number}}.{{('png', 'jpg', 'tif', 'webp')[number % 4]}}")

# glibc keeps free memory for later and gives it back at odd times, 9 MB at once: it would look like a leak.
trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)

def used():
    gc.collect()
    trim(0)
    status = Path("/proc/self/status").read_text().splitlines()
    field = lambda name: int(next(line.split()[1] for line in status if line.startswith(name)))
    return field("VmRSS:"), len(os.listdir("/proc/self/fd")), field("Threads:")

for batch in range(batches):
    report = edgedenoise.denoise_files(
        [folder / "noisy"], folder / "out", bundle, existing="overwrite", runtime=runtime, precision="fp32", threads=1
    )
    assert report.counts.denoised == {BATCH}, report
    print(*used(), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory as Linux reports it")
@pytest.mark.parametrize("runtime", ["onnxruntime"])
def test_memory_handles_and_threads_stay_flat(
    tmp_path: Path, runtime: str, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-c", SOAK, str(tmp_path), str(TINY), runtime, str(IMAGES // BATCH)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [tuple(int(number) for number in line.split()) for line in done.stdout.splitlines()]
    warm, last = rows[WARM_UP - 1], rows[-1]
    record_property("warm", WARM_UP * BATCH)
    record_property("images", len(rows) * BATCH)
    for what, before, after in zip(("resident memory in kB", "file handles", "threads"), warm, last, strict=True):
        record_property(what, f"{before} {after}")
        assert after <= before * (1 + ACCEPTED), f"{what}: {before} after {WARM_UP * BATCH} images, then {after}"
