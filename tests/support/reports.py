"""Runs for tests of reports: results of two runtimes on a few images, without measuring anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.evaluation.report.crops import Source
from edgedenoise.evaluation.results import (
    CALL,
    BundleIdentity,
    Client,
    ImageDistance,
    ImageQuality,
    ImageRecord,
    ImageResult,
    LatencySamples,
    Machine,
    Run,
    RunEnvironment,
    VariantResult,
)
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
NOISY_DB = (30.0, 31.0, 29.0, 33.0, 28.0, 40.0)
FLOAT_DB = (34.0, 35.0, 33.5, 36.0, 33.0, 39.5)
"""The last image becomes worse."""
INT8_CHANGES_DB = (-0.05, -0.08, -0.02, -0.3, -0.05, 0.02)


def quality(psnr_db: float) -> ImageQuality:
    return ImageQuality(psnr_db=psnr_db, ssim=0.9, color_shift_lsb=(0.1, -0.4, 0.2), more={"ms_ssim": 0.97})


def variant(
    name: str,
    ms: float,
    changes_db: tuple[float, ...] | None = None,
    *,
    precision: str = "",
    truth: bool = True,
    error: str = "",
    not_recommended: str = "",
    least_noise_lsb: float = 0.0,
) -> VariantResult:
    """Return results of a variant: times around `ms` per megapixel, and changes of the PSNR to float on each image."""
    runtime, kind = name.split("-")[:2]
    is_float = kind.startswith("fp")
    shifts = changes_db or (0.0,) * len(IMAGES)
    images = tuple(
        ImageResult(
            image=image,
            quality=quality(float_db + shift) if truth else None,
            to_float=None if is_float else ImageDistance(psnr_db=52.0 + shift, max_error_lsb=7),
            measures={"residual_noise_lsb": 1.5, "detail_kept": 0.9},
        )
        for image, float_db, shift in zip(IMAGES, FLOAT_DB, shifts, strict=True)
    )
    samples = tuple(ms * 0.25 * factor for factor in (1.0, 1.02, 0.98, 1.1, 0.99))  # 512x512 is about 0.26 megapixels
    return VariantResult(
        name=name,
        runtime=runtime,
        precision=precision or ("fp32" if is_float else "int8"),
        size_bytes=200_000 if is_float else 60_000,
        runtime_version="1.0",
        load_ms=12.0,
        peak_rss_bytes=90 << 20,
        timings=() if error else (LatencySamples(scope=CALL, height_px=500, width_px=500, samples_ms=samples),),
        images=() if error else images,
        not_recommended=not_recommended,
        least_noise_lsb=least_noise_lsb,
        error=error,
    )


DEFAULT_VARIANTS = (
    variant("onnx-fp32", 200),
    variant("onnx-int8", 160, INT8_CHANGES_DB),
    variant("openvino-fp32", 190),
    variant("openvino-int8", 100, INT8_CHANGES_DB),
)


def run(*variants: VariantResult, truth: bool = True, label: str = "desk <1>", **environment: object) -> Run:
    """Return a run of some variants, by default of two runtimes in float and INT8."""
    images = tuple(
        ImageRecord(
            name=image,
            height_px=400,
            width_px=600,
            noisy=quality(psnr_db) if truth else None,
            measures={"residual_noise_lsb": 8.0, "detail_kept": 1.0},
        )
        for image, psnr_db in zip(IMAGES, NOISY_DB, strict=True)
    )
    return Run(
        id=f"run-{label}",
        command="compare",
        arguments=("compare", "my bundle.edge", "--noisy", "photos"),
        started="2026-11-27T01:02:03Z",
        duration_s=61.0,
        client=Client(name="python", version="0.1.0"),
        machine=Machine(id=label, label=label, system="Linux", architecture="x86_64", cpu="Test CPU", cores=4),
        environment=msgspec.convert(environment, RunEnvironment),
        bundle=BundleIdentity(name="edge & co", digest="ab" * 32, network="edge", macs_per_px=44_500),
        variants=variants or DEFAULT_VARIANTS,
        images=images,
    )


def write_versions(folder: Path, *, side: int = 700) -> Source:
    """Write an image in four versions: noisy, float, INT8 and the ground truth."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side]
    clean = 128 + 60 * np.sin(x / 31) * np.cos(y / 23)
    clean = np.stack([clean, clean * 0.9, clean * 0.8 + 20], axis=2)
    clean[40:90, 60:120] += rng.normal(0, 40, (50, 60, 1))
    int8 = clean + np.where((x // 24 + y // 24) % 2, 2.0, 0.0)[..., None]
    versions = {"noisy": clean + rng.normal(0, 18, clean.shape), "float": clean, "int8": int8, "clean": clean}
    for name, levels in versions.items():
        write_image(Image(np.clip(levels, 0, 255).round().astype(np.uint8)), folder / f"{name}.png")
    return Source(
        name="waves & more.png",
        noisy=folder / "noisy.png",
        reference="openvino-fp32",
        float_result=folder / "float.png",
        integer_results={"openvino-int8": folder / "int8.png"},
        other_results={},
        truth=folder / "clean.png",
    )
