"""Make a new bundle around a float ONNX graph: manifest, float variant, self-test and model card, without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Manifest, NetworkInfo, NoiseLevel, Parity, Training, Variant, schema_for
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import FLOAT_VARIANT, TRAINED_RANGES_FILE
from edgedenoise.calibration.graphs import channel_problems
from edgedenoise.calibration.ranges import Ranges
from edgedenoise.exporting.onnx.graph import (
    check_graph,
    embed,
    macs_per_px,
    parameter_count,
    peak_bytes_per_px,
    raise_problems,
)
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.noise.level import level_plane
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.runtimes.noise_plane import with_plane
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.onnxruntime.reference import open_reference
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import ANSWER_FILE, IMAGE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.calibration.histograms import Range
    from edgedenoise.imaging.normalize import Normalization

EXPORT_STEPS = 3
"""Steps that are reported as progress: trace, compare, write."""
SELFTEST_SIDE_PX = 96


@dataclass(frozen=True)
class FloatGraph:
    """A float graph that obeys the graph contract, and what a bundle records about it."""

    model: onnx.ModelProto
    name: str
    """Name of the network, for example `cbsn-24x4`."""
    normalization: Normalization
    halo_px: int
    """Radius of the receptive field in input pixels."""
    multiple_of: int = 1
    """What the sides of an input must be divisible by."""
    blend_px: int | None = None
    """Half the width of the strips in which tiles are blended; None for exact tiles."""
    parity: Parity | None = None
    """How far the graph is from the network that it was traced from."""
    training: Training | None = None
    scheme: str | None = None
    """Integer encoding that the weights were trained in; None for float training."""
    trained_ranges: Mapping[str, Range] | None = None
    """Ranges that the weights were trained with, by tensor; None for float training."""
    float_layers: tuple[str, ...] = ()
    """Outputs of the layers that stayed in float while the others were trained in 8 bits."""
    noise_level: NoiseLevel | None = None
    """How the fourth input channel is computed; None for a network that takes the image alone."""


def new_manifest(graph: FloatGraph, name: str, about: str = "") -> Manifest:
    """Return the manifest of a new bundle around a float graph, still without variants.

    Args:
        graph: the graph.
        name: name of the bundle.
        about: Markdown for the model card.
    """
    model = graph.model
    tiling = Tiling(graph.halo_px, graph.multiple_of, peak_bytes_per_px(model), graph.blend_px or msgspec.UNSET)
    return Manifest(
        schema=schema_for(tiling),
        name=name,
        created_by=f"edgedenoise {edgedenoise.__version__}",
        network=NetworkInfo(graph.name, parameter_count(model), macs_per_px(model)),
        normalization=graph.normalization.kind,
        normalization_limit=graph.normalization.limit,
        tiling=tiling,
        variants=[],
        noise_level=graph.noise_level,
        training=graph.training,
        parity=graph.parity,
        about=about,
    )


@dataclass(frozen=True)
class WrittenFloatGraph:
    """A float graph as it was written into a bundle, and the bundle's self-test."""

    model: onnx.ModelProto
    data: bytes
    """The serialized graph, with the embedded metadata."""
    selftest: tuple[NDArray[np.float32], NDArray[np.float32]]
    """(image, float output) in unit range; see `selftest_pair`."""
    trained: Ranges | None
    """Ranges that the weights were trained with; None for float training."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()


def put_float_graph(writer: BundleWriter, graph: FloatGraph) -> WrittenFloatGraph:
    """Write the float variant, the self-test and the trained ranges into a bundle that is being written.

    Raises:
        ExportError: the graph takes another number of channels than the manifest says.
    """
    raise_problems(channel_problems(graph.model, writer.manifest))
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    variant = Variant(FLOAT_VARIANT, OnnxRuntime.name, "fp32", f"{FLOAT_VARIANT}/model.onnx")
    writer.put_variant(variant)
    embed(model, writer.metadata(variant))
    data = model.SerializeToString()
    writer.write(variant.path, data)
    image = selftest_image(writer.manifest.input_channels)
    # The answer that other backends are held to must not depend on this machine's kernels.
    with open_reference(data) as session:
        answer = run_image(session, image, graph.normalization, writer.manifest.tiling)
    writer.write(IMAGE_FILE, _npy(image))
    writer.write(ANSWER_FILE, _npy(answer))
    trained = None
    if graph.trained_ranges is not None:
        digest = hashlib.sha256(data).hexdigest()
        trained = Ranges(digest, 0, dict(graph.trained_ranges), graph.float_layers)
        writer.write_json(TRAINED_RANGES_FILE, trained)
    return WrittenFloatGraph(model, data, (image, answer), trained)


def write_float_bundle(target: Path, graph: FloatGraph, *, about: str = "") -> Bundle:
    """Write a new bundle with one variant, the float graph as it is.

    Args:
        target: the bundle folder; an existing bundle is replaced.
        graph: the graph and what is known about it.
        about: Markdown for the model card.

    Returns:
        The new bundle.

    Raises:
        ExportError: the graph breaks the contract.
        BundleError: `target` exists and is not a bundle.
    """
    check_graph(graph.model)
    with BundleWriter.create(target, new_manifest(graph, target.stem, about)) as writer:
        put_float_graph(writer, graph)
    return Bundle.open(target)


def selftest_image(channels: int = CHANNELS) -> NDArray[np.float32]:
    """Return a small noisy image in [0, 1]: ramps, edges, fine stripes and noise of mixed strength.

    Args:
        channels: number of input channels of the network.

    Returns:
        (3, 96, 96); or (4, 96, 96) with the level of that noise, which varies over the image.
    """
    side = SELFTEST_SIDE_PX
    y, x = np.mgrid[0:side, 0:side] / side
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * x * np.linspace(2, 24, side)[:, None])
    disc = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08).astype(float)
    clean = np.stack([0.1 + 0.8 * x, 0.9 - 0.7 * y, 0.3 + 0.4 * stripes]) * (0.6 + 0.4 * disc)
    strength = 0.02 + 0.08 * y
    noisy = clean + strength * np.random.default_rng(0).standard_normal(clean.shape)
    # Rounded to 8 bits like an image, and stored, so that it need not be drawn alike elsewhere.
    rounded = np.floor(np.clip(noisy, 0, 1) * 255 + 0.5) / 255
    image = np.asarray(rounded, np.float32)
    return image if channels == CHANNELS else with_plane(image, level_plane(strength))


def _npy(values: NDArray[np.float32]) -> bytes:
    stream = BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
