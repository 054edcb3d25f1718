"""What clients of a server send: images, and results of phones."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import edgedenoise
from edgedenoise.evaluation.results import (
    BundleIdentity,
    Client,
    ImageDistance,
    ImageRecord,
    ImageResult,
    LatencySamples,
    Machine,
    Run,
    RunEnvironment,
    SelfTest,
    VariantResult,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `edgedenoise serve` and yield it with its address."""
    environment = {**os.environ, "XDG_DATA_HOME": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edgedenoise", "serve", "edge-tiny", "--port", "0", "--results", "lab", *words]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            seen = ""
            while not (found := re.search(r"open (https?://\S+)", seen)):
                line = server.stderr.readline()
                assert line, seen
                seen += line
            yield server, found[1]
        finally:
            server.kill()


def png(height: int = 40, width: int = 56, seed: int = 0) -> bytes:
    """Return a noisy image as PNG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def phone(
    label: str = "Pixel 7", *, ms: float = 100.0, error_lsb: float = 3.0, digest: str = "", passed: bool = True
) -> Run:
    """Return what a phone measures: a float and an INT8 variant."""
    digest = digest or edgedenoise.Bundle.open("edge-tiny").manifest.digest
    selftest = SelfTest(passed=passed, psnr_db=50.0, limit_db=40.0, reason="" if passed else "48 levels off")

    def variant(name: str, precision: str, factor: float) -> VariantResult:
        return VariantResult(
            name=name,
            runtime="onnxruntime-web",
            precision=precision,
            size_bytes=1000,
            detail="WebAssembly, 4 threads",
            timings=(
                LatencySamples(
                    scope="call", height_px=512, width_px=512, samples_ms=tuple(factor * ms * f for f in (0.9, 1, 1.1))
                ),
            ),
            selftest=selftest,
            images=(ImageResult(image="selftest", to_float=ImageDistance(psnr_db=45.0, max_error_lsb=error_lsb)),),
            compared_with="onnx-fp32" if precision == "int8" else "",
        )

    return Run(
        id=f"run-{label}-{ms}",
        command="test",
        started="2026-11-27T10:00:00Z",
        duration_s=60.0,
        client=Client(name="web", version="0.1.0"),
        machine=Machine(id=f"id-{label}", label=label, system="Android 14", architecture="wasm32", cores=8),
        environment=RunEnvironment(threads=4),
        bundle=BundleIdentity(name="edge-tiny", digest=digest),
        variants=(variant("onnx-fp32", "fp32", 2.0), variant("onnx-int8-u8s7", "int8", 1.0)),
        images=(ImageRecord(name="selftest", height_px=64, width_px=64),),
    )
