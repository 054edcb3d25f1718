"""A bundle with sound and damaged variants, noisy images with their ground truth, and a comparison of both."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from conftest import FlipByte

    from edgedenoise.evaluation.compare import CompareReport

    Pair = Callable[[int], tuple[np.ndarray, np.ndarray]]

REPEATS = 3


@pytest.fixture(scope="module")
def folder(
    committed_bundle: Path,
    pair: Pair,
    nan_model: bytes,
    flip_byte: FlipByte,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two noisy images with their ground truth, and a bundle with two sound and two bad variants."""
    root = tmp_path_factory.mktemp("compare")
    for seed, ending in ((200, "png"), (201, "tif")):
        noisy, clean = (image[:90, :110] for image in pair(seed))
        write_image(Image(noisy), root / "noisy" / f"{seed}.png")
        write_image(Image(clean), root / "clean" / f"{seed}.{ending}")
    bundle = shutil.copytree(committed_bundle, root / "mixed.edge")
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        draft.write("onnx-broken/model.onnx", (bundle / "onnx-fp32" / "model.onnx").read_bytes())
        draft.put_variant(Variant("onnx-broken", "onnxruntime", "fp16", "onnx-broken/model.onnx"))
        draft.write("onnx-nan/model.onnx", nan_model)
        draft.put_variant(Variant("onnx-nan", "onnxruntime", "fp16", "onnx-nan/model.onnx"))
    flip_byte(bundle / "onnx-broken" / "model.onnx")
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> CompareReport:
    return edgedenoise.compare(
        folder / "mixed.edge", folder / "noisy", folder / "clean", repeats=REPEATS, keep=folder / "kept"
    )
