"""What each layer's integers cost by themselves: one layer in 8 bits, all others float, in exact arithmetic.

Told on crops that calibration has not seen: in dB to the float answer, and to the ground truth where there is one.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.bundles.manifest import Calibration, Variant
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import UsageError
from edgedenoise.exporting.onnx.graph import conv_macs_per_px
from edgedenoise.exporting.quantization.qdq import encode, quantized_layers
from edgedenoise.exporting.quantization.search_result import LayerCost, Quality
from edgedenoise.files import sha256_of
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.imaging.pairs import list_pairs
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.calibration.schemes import Scheme
    from edgedenoise.imaging.normalize import Statistics
    from edgedenoise.imaging.tiling import Tiling

HELD_OUT_CROPS = 16
_EQUAL_DB = 200.0  # stands for equal answers: JSON knows no infinity
_HELD_OUT_SEED = 1  # beside the calibration's own


@dataclass(frozen=True)
class _Crop:
    """What a network is given, and what its answer is held to, without the margin, in unit range."""

    given: NDArray[np.float32]
    stats: Statistics
    float_answer: NDArray[np.float32]
    truth: NDArray[np.float32] | None


class Judge:
    """Held-out crops of a bundle's images, with the float answer to each, and what graphs make of them."""

    def __init__(
        self,
        bundle: Bundle,
        data: Path | None,
        clean: Path | None,
        count: int = HELD_OUT_CROPS,
        progress: Progress = silent,
    ) -> None:
        """Draw the crops and run the float graph over them.

        Args:
            bundle: a calibrated bundle.
            data: noisy images; None when the bundle was calibrated with synthetic noise on clean ones.
            clean: their ground truth under the same names, or the clean images that noise is added to; None
                judges by the distance to the float answer alone.
            count: how many crops.
            progress: told after each crop.

        Raises:
            UsageError: neither `data` nor clean images for a bundle with synthetic noise.
            DatasetError: a noisy image has no ground truth.
            CalibrationError: the folder cannot be used.
        """
        manifest = bundle.manifest
        self.tiling = manifest.tiling
        chosen, folder = _held_out(manifest.calibration or Calibration(0, 0, 0), data, clean, count, bundle.source)
        truths: Iterator[NDArray[np.float32] | None] = (None for _ in chosen.crops)
        if clean is not None:
            truths = _truths(chosen, None if data is None else clean, folder, self.tiling)
        variant = bundle.variant(FLOAT_VARIANT)
        session = OnnxRuntime().open(variant, bundle.variant_file(variant), "cpu", SessionOptions())
        self.crops: list[_Crop] = []
        with CheckedSession(session) as reference:
            inputs = chosen.inputs(folder, manifest.normalization, self.tiling)
            for (given, stats), truth in zip(inputs, truths, strict=True):
                progress("crops", len(self.crops), len(chosen.crops))
                self.crops.append(_Crop(given, stats, self._answer(reference, given, stats), truth))
        progress("crops", len(self.crops), len(self.crops))

    @property
    def float_quality(self) -> Quality:
        """What the float graph has by definition."""
        return Quality(_EQUAL_DB, None if self.crops[0].truth is None else 0.0)

    def judge(self, model: onnx.ModelProto) -> Quality:
        """Run a graph over the crops in exact arithmetic (the oracle)."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            variant = Variant("candidate", OnnxRuntime.name, "int8", path.name)
            with CheckedSession(OnnxRuntime().open(variant, path, "cpu", SessionOptions(fused=False))) as oracle:
                answers = [self._answer(oracle, crop.given, crop.stats) for crop in self.crops]
        wanted = np.concatenate([crop.float_answer.ravel() for crop in self.crops])
        to_float_db = min(_EQUAL_DB, psnr_unit(np.concatenate([answer.ravel() for answer in answers]), wanted))
        drops = [
            psnr_unit(crop.float_answer, crop.truth) - psnr_unit(answer, crop.truth)
            for answer, crop in zip(answers, self.crops, strict=True)
            if crop.truth is not None
        ]
        return Quality(to_float_db, float(np.mean(drops)) if drops else None)

    def _answer(self, session: CheckedSession, given: NDArray[np.float32], stats: Statistics) -> NDArray[np.float32]:
        """Return (3, h, w) in unit range, without the margin."""
        return _without_margin(np.clip(stats.undo(session.run(given)[0]), 0, 1), self.tiling)


def layer_costs(
    model: onnx.ModelProto, ranges: Ranges, scheme: Scheme, judge: Judge, progress: Progress = silent
) -> list[LayerCost]:
    """Quantize each layer alone and return the costs, in the order of the graph.

    Args:
        model: the float graph.
        ranges: measured on it.
        scheme: the encoding.
        judge: the crops to tell it on.
        progress: told after each layer.
    """
    layers = quantized_layers(model, scheme)
    macs = conv_macs_per_px(model)
    names = {node.output[0] for node in layers}
    costs = []
    for done, node in enumerate(layers):
        name = node.output[0]
        progress("layers", done, len(layers), name)
        quality = judge.judge(encode(model, ranges, scheme, names - {name}))
        share = float(macs.get(name, 0) / sum(macs.values()))
        weight = node.input[1].removesuffix(".weight") if node.op_type == "Conv" else ""
        costs.append(LayerCost(name, weight, node.op_type, share, quality))
    progress("layers", len(layers), len(layers))
    return costs


def _held_out(
    known: Calibration, data: Path | None, clean: Path | None, count: int, bundle: str | Path
) -> tuple[CalibrationSet, Path]:
    """Draw crops with another seed than the calibration's; return them and the folder they are from."""
    folder = data or (clean if known.noise_levels else None)
    if folder is None:
        raise UsageError(
            f"noisy images are missing: {bundle} was not calibrated with synthetic noise on clean ones",
            hint="give them with --data DIR, under the same names as the clean ones",
        )
    levels = known.noise_levels if data is None else ()
    return CalibrationSet.from_folder(folder, count, known.seed + _HELD_OUT_SEED, noise_levels=levels), folder


def _truths(chosen: CalibrationSet, clean: Path | None, folder: Path, tiling: Tiling) -> Iterator[NDArray[np.float32]]:
    """Yield the same crops of the clean images: of the same folder, before noise, when `clean` is None."""
    crops = [msgspec.structs.replace(crop, noise_level=None) for crop in chosen.crops]
    if clean is not None:
        pairs = {noisy.name: truth for noisy, truth in list_pairs(folder, clean)}
        hashes = {crop.photo: sha256_of(pairs[crop.photo]) for crop in crops}
        crops = [
            msgspec.structs.replace(crop, photo=pairs[crop.photo].name, sha256=hashes[crop.photo]) for crop in crops
        ]
    for window, _ in msgspec.structs.replace(chosen, crops=crops).inputs(clean or folder, "unit", tiling):
        yield _without_margin(window[0], tiling)


def _without_margin(planes: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    margin = tiling.margin_px
    return planes[:, margin : planes.shape[1] - margin, margin : planes.shape[2] - margin]
