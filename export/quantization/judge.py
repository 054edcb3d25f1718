"""Measure how far quantized graphs are from float, in exact arithmetic, on crops that calibration has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.atomic import sha256_of
from edgedenoise.calibration.calibrate import SET_FILE, float_graph, recorded_set
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.sets import CalibrationSet, DrawnSet, draw_held_out
from edgedenoise.errors import UsageError
from edgedenoise.exporting.quantization.search_result import Fidelity
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.pairs import list_pairs
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.onnxruntime.reference import open_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Manifest
    from edgedenoise.imaging.normalize import Statistics
    from edgedenoise.imaging.tiling import Tiling
    from edgedenoise.runtimes.checked import CheckedSession

SEARCH_CROPS = 16
"""Held-out crops that the choices of a search are judged on."""
_EQUAL_DB = 200.0  # stands for equal answers: JSON has no infinity
_HELD_OUT_SEED = 1  # added to the seed of the calibration set


@dataclass(frozen=True)
class HeldOutCrop:
    """A crop that graphs are judged on; all but `given` without the margin, in unit range."""

    given: NDArray[np.float32]
    """What the network is given, (1, C, h, w), with the margin."""
    stats: Statistics
    float_answer: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    """The clean image; None where it is unknown."""


class Judge:
    """Held-out crops with the float output to each."""

    def __init__(
        self,
        float_model: bytes,
        drawn: DrawnSet,
        truths: Iterable[NDArray[np.float32] | None] | None = None,
        progress: Progress = silent,
    ) -> None:
        """Run the float graph over the crops.

        Args:
            float_model: the float graph, serialized.
            drawn: the crops.
            truths: the ground truth of each crop, (3, h, w) with the margin; None for none.
            progress: called after each crop.
        """
        self.tiling = drawn.tiling
        self.crops: list[HeldOutCrop] = []
        total = len(drawn.crops.crops)
        known = iter(truths) if truths is not None else None
        with open_reference(float_model) as session:
            for given, stats in drawn.inputs():
                progress("crops", len(self.crops), total)
                truth = next(known) if known is not None else None
                truth = None if truth is None else _without_margin(truth, self.tiling)
                self.crops.append(HeldOutCrop(given, stats, self._answer(session, given, stats), truth))
        progress("crops", total, total)

    @property
    def float_fidelity(self) -> Fidelity:
        """Fidelity of the float graph to itself."""
        return Fidelity(_EQUAL_DB, None if self.crops[0].truth is None else 0.0)

    def judge(self, model: onnx.ModelProto) -> Fidelity:
        """Run a graph over the crops by the reference execution and return how close it is to float."""
        with open_reference(model.SerializeToString()) as session:
            answers = [self._answer(session, crop.given, crop.stats) for crop in self.crops]
        expected = np.concatenate([crop.float_answer.ravel() for crop in self.crops])
        to_float_db = min(_EQUAL_DB, psnr_unit(np.concatenate([answer.ravel() for answer in answers]), expected))
        drops = [
            psnr_unit(crop.float_answer, crop.truth) - psnr_unit(answer, crop.truth)
            for answer, crop in zip(answers, self.crops, strict=True)
            if crop.truth is not None
        ]
        return Fidelity(to_float_db, float(np.mean(drops)) if drops else None)

    def _answer(self, session: CheckedSession, given: NDArray[np.float32], stats: Statistics) -> NDArray[np.float32]:
        """Return (3, h, w) in unit range, without the margin."""
        return _without_margin(np.clip(stats.undo(session.run(given)[0]), 0, 1), self.tiling)


def judge_of(
    bundle: Bundle,
    data: Path | None,
    clean: Path | None = None,
    count: int = SEARCH_CROPS,
    progress: Progress = silent,
) -> Judge:
    """Return a judge with held-out crops of a bundle's images.

    Args:
        bundle: a calibrated bundle.
        data: noisy images; None if the bundle was calibrated with synthetic noise on clean ones.
        clean: their ground truth under the same names, or the clean images that noise is added to; None judges by the
            distance to the float output alone.
        count: number of crops.
        progress: called after each crop.

    Raises:
        UsageError: neither `data` nor clean images for a bundle with synthetic noise.
        DatasetError: a noisy image has no ground truth.
        CalibrationError: calibration has seen everything, or the folder cannot be used.
    """
    manifest = bundle.manifest
    levels = () if manifest.calibration is None or data is not None else tuple(manifest.calibration.noise_levels)
    folder = data or (clean if levels else None)
    if folder is None:
        raise UsageError(
            f"noisy images are missing: {bundle.source} was not calibrated with synthetic noise on clean ones",
            hint="Give their folder with --data, under the same names as the clean ones.",
        )
    drawn = held_out_set(known_set(bundle), folder, manifest, count, levels, progress)
    truths: Iterator[NDArray[np.float32]] | None = None
    if clean is not None:
        truths = drawn.clean() if data is None else _truths(drawn, clean)
    return Judge(float_graph(bundle), drawn, truths, progress)


def known_set(bundle: Bundle) -> CalibrationSet:
    """Return the crops that a bundle was calibrated on; an empty set where it does not record them."""
    return recorded_set(bundle) if bundle.has(SET_FILE) else CalibrationSet(0, 1, [])


def held_out_set(
    known: CalibrationSet,
    folder: Path,
    manifest: Manifest,
    count: int,
    noise_levels: tuple[float, ...] = (),
    progress: Progress = silent,
) -> DrawnSet:
    """Return crops for a network that its calibration set does not touch.

    Args:
        known: the calibration set.
        folder: images, or a text file that lists them.
        manifest: normalization, halo and grid of the network.
        count: number of crops.
        noise_levels: levels of synthetic noise to add.
        progress: called after each image.

    Raises:
        CalibrationError: calibration has seen everything, or the folder cannot be used.
    """
    options = SetOptions(count, known.seed + _HELD_OUT_SEED, noise_levels=noise_levels)
    return draw_held_out(
        known,
        folder,
        options,
        manifest.input_normalization,
        manifest.tiling,
        progress,
        takes_level=manifest.noise_level is not None,
    )


def _truths(drawn: DrawnSet, clean: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the same crops of the clean images."""
    pairs = {noisy.name: truth for noisy, truth in list_pairs(drawn.folder, clean)}
    hashes = {crop.image: sha256_of(pairs[crop.image]) for crop in drawn.crops.crops}
    crops = [
        msgspec.structs.replace(crop, noise_level=None, image=pairs[crop.image].name, sha256=hashes[crop.image])
        for crop in drawn.crops.crops
    ]
    for x, _ in msgspec.structs.replace(drawn.crops, crops=crops).inputs(clean, UNIT, drawn.tiling):
        yield x[0]


def _without_margin(planes: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    margin = tiling.margin_px
    return planes[:, margin : planes.shape[1] - margin, margin : planes.shape[2] - margin]
