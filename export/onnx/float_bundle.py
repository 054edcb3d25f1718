"""A new bundle around a float ONNX graph: manifest, float variant, self-test and model card. No torch needed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Manifest, NetworkInfo, Parity, Training, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.exporting.onnx.graph import check_graph, embed, macs_per_px, parameter_count, peak_bytes_per_px
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.base import CheckedSession, SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import ANSWER_FILE, PICTURE_FILE

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import NormalizationKind

SELFTEST_SIDE_PX = 96


def write_float_bundle(
    target: Path,
    model: onnx.ModelProto,
    *,
    name: str,
    normalization: NormalizationKind,
    halo_px: int,
    multiple_of: int = 1,
    parity: Parity | None = None,
    training: Training | None = None,
    about: str = "",
) -> Bundle:
    """Write a bundle with one variant, the float graph as it is.

    Args:
        target: the bundle folder; an existing bundle is replaced.
        model: float graph that obeys the graph contract; the bundle's essentials are embedded in it.
        name: of the network.
        normalization: what the graph sees.
        halo_px: receptive-field radius in input pixels.
        multiple_of: what sides of an input must be divisible by.
        parity: how far the graph is from the network that it was traced from.
        training: how its weights came about.
        about: Markdown for the model card.

    Raises:
        ExportError: the graph breaks the contract.
        BundleError: `target` exists and is not a bundle.
    """
    check_graph(model, quantized=False)
    manifest = Manifest(
        name=target.stem,
        created_by=f"edgedenoise {edgedenoise.__version__}",
        network=NetworkInfo(name, parameter_count(model), macs_per_px(model)),
        normalization=normalization,
        tiling=Tiling(halo_px, multiple_of, peak_bytes_per_px(model)),
        variants=[],
        training=training,
        parity=parity,
        about=about,
    )
    variant = Variant(FLOAT_VARIANT, OnnxRuntime.name, "fp32", f"{FLOAT_VARIANT}/model.onnx")
    with BundleWriter.create(target, manifest) as draft:
        draft.put_variant(variant)
        embed(model, draft.essentials(variant))
        draft.write(variant.path, model.SerializeToString())
        image = selftest_image()
        # Unfused: the answer that other backends are held to should not depend on this machine's kernels.
        options = SessionOptions(fused=False)
        with CheckedSession(OnnxRuntime().open(variant, draft.root / variant.path, "cpu", options)) as session:
            answer = run_image(session, image, normalization, draft.manifest.tiling)
        draft.write(PICTURE_FILE, _npy(image))
        draft.write(ANSWER_FILE, _npy(answer))
    return Bundle.open(target)


def selftest_image() -> NDArray[np.float32]:
    """Return a small noisy image, (3, 96, 96) in [0, 1]: ramps, edges, fine stripes and noise of mixed strength."""
    side = SELFTEST_SIDE_PX
    y, x = np.mgrid[0:side, 0:side] / side
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * x * np.linspace(2, 24, side)[:, None])
    disc = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08).astype(float)
    clean = np.stack([0.1 + 0.8 * x, 0.9 - 0.7 * y, 0.3 + 0.4 * stripes]) * (0.6 + 0.4 * disc)
    strength = 0.02 + 0.08 * y
    noisy = clean + strength * np.random.default_rng(0).standard_normal(clean.shape)
    # Rounded to 8 bits like an image, and stored, so that it need not be drawn alike elsewhere.
    rounded = np.floor(np.clip(noisy, 0, 1) * 255 + 0.5) / 255
    return np.asarray(rounded, np.float32)


def _npy(values: NDArray[np.float32]) -> bytes:
    stream = BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
