"""Runs of result files with given samples, for tests that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.evaluation.results import (
    BundleIdentity,
    Client,
    ImageQuality,
    ImageRecord,
    ImageResult,
    LatencySamples,
    Machine,
    Run,
    RunEnvironment,
    VariantResult,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT = (10.0, 10.1, 9.9, 10.0, 10.2, 9.8)


def variant(name: str, samples: Sequence[float], psnr_db: float = 30.0) -> VariantResult:
    return VariantResult(
        name=name,
        runtime="onnxruntime",
        precision="int8" if "int8" in name else "fp32",
        size_bytes=1,
        timings=(LatencySamples(scope="call", height_px=100, width_px=100, samples_ms=tuple(samples)),),
        images=(ImageResult(image="a.png", quality=ImageQuality(psnr_db=psnr_db)),),
        compared_with="onnx-fp32" if "int8" in name else "",
    )


def made_run(
    day: int,
    integers: Sequence[float],
    *,
    slower: float = 1.0,
    psnr_db: float = 30.0,
    label: str = "board",
    contended: bool | None = False,
) -> Run:
    """Return a run of a float variant and an INT8 variant on a machine that is `slower` times as slow."""
    return Run(
        id=f"{label}-{day}",
        command="compare",
        started=f"2026-11-{day:02}T00:00:00Z",
        duration_s=1.0,
        client=Client(name="python", version="0"),
        machine=Machine(id="0123", label=label, system="Linux", architecture="aarch64"),
        environment=RunEnvironment(threads=1, contended=contended),
        bundle=BundleIdentity(name="tiny", digest=str(day)),
        variants=(
            variant("onnx-fp32", [value * slower for value in FLOAT]),
            variant("onnx-int8", [value * slower for value in integers], psnr_db),
        ),
        images=(ImageRecord(name="a.png", height_px=100, width_px=100),),
    )


HALF = tuple(value / 2 for value in FLOAT)
EARLIER = [made_run(1, HALF), made_run(2, HALF, slower=1.02), made_run(3, HALF, slower=0.98)]
