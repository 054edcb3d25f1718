"""Fixtures of the export and calibration tests: bundles around small graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from graphs import branched_graph
from images import write_noisy_images

from edgedenoise.exporting.onnx.float_bundle import FloatGraph, write_float_bundle
from edgedenoise.imaging.normalize import WHOLE_IMAGE, Normalization

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgedenoise.bundles.bundle import Bundle


@pytest.fixture(scope="session")
def _noisy_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the images once per session, because finding the gain for a PSNR takes a second."""
    return write_noisy_images(tmp_path_factory.mktemp("noisy-images"))


@pytest.fixture
def noisy_folder(tmp_path: Path, _noisy_images: Path) -> Path:
    """Four small images with camera noise."""
    return Path(shutil.copytree(_noisy_images, tmp_path / "noisy"))


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Wrap a graph into a bundle."""

    def make(
        model: onnx.ModelProto, *, halo_px: int = 4, multiple_of: int = 1, normalization: Normalization = WHOLE_IMAGE
    ) -> Bundle:
        return write_float_bundle(
            tmp_path / "test.edge", FloatGraph(model, "test", normalization, halo_px, multiple_of)
        )

    return make


@pytest.fixture
def branched_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(branched_graph())
