"""Measure how far quantized graphs are from float, on images that calibration has not seen.

An image is judged whole, or in windows where it is larger than `JUDGED_SIDE_PX`, normalized by the whole image. Most
of the error of a quantized C-BSN is in few images, so the worst image counts beside the mean.

PSNR needs a clean image. Where there is none, the float output stands for it: what the float output lacks of the noisy
image, mostly noise, is turned by 180 degrees and added to the float output. Both graphs then denoise this new noisy
image, whose clean image is known.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from edgedenoise.atomic import sha256_of
from edgedenoise.bundles.manifest import MOST_MEAN_LOSS_DB, MOST_WORST_LOSS_DB, HeldOutLoss, Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.calibrate import SET_FILE, float_graph, recorded_set
from edgedenoise.calibration.drawing import DEFAULT_CROP_PX, SetOptions
from edgedenoise.calibration.sets import CalibrationSet, DrawnSet, draw_held_out
from edgedenoise.errors import CalibrationError, UsageError
from edgedenoise.exporting.quantization.search_result import Fidelity
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.pairs import list_pairs
from edgedenoise.noise.level import PLANE_GAIN
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CHANNELS, SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.onnxruntime.reference import open_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Manifest
    from edgedenoise.calibration.schemes import Scheme
    from edgedenoise.imaging.normalize import Statistics
    from edgedenoise.imaging.tiling import Tiling

SEARCH_CROPS = 16
"""Held-out images or windows that the choices of a budget search are judged on."""
JUDGED_SIDE_PX = 512
"""Largest side of what is judged at once."""
SENSITIVITY_SIDE_PX = 128
"""Side of the middle of each image that layers are compared on."""
_MOST_IMAGES, _FEWEST_IMAGES = 12, 4
_MACS = 3e11
"""Work of one pass over the images, which large networks pass over fewer images for."""
AIM = 0.5
"""Part of the recommended loss that choices aim at, because other images may lose more."""
_LEAST_COUNTED = 1 / 3  # part of the images that must have enough noise for integers
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

    @property
    def noise_lsb(self) -> float | None:
        """Estimated noise in 8-bit levels (RMS); None for a network that does not take it."""
        planes = self.given[:, CHANNELS:]
        return float(np.sqrt(np.square(planes, dtype=np.float64).mean())) / PLANE_GAIN * 255 if planes.size else None


class Judge:
    """Held-out images with the float output to each."""

    def __init__(
        self,
        float_model: bytes,
        drawn: DrawnSet,
        truths: Iterable[NDArray[np.float32] | None] | None = None,
        progress: Progress = silent,
        *,
        replay: bool = False,
    ) -> None:
        """Run the float graph over the images.

        Args:
            float_model: the float graph, serialized.
            drawn: the images, or windows of them.
            truths: the clean image of each, (3, h, w) with the margin; None for none.
            progress: called after each image.
            replay: whether to make noisy images with a known clean image where `truths` has none.
        """
        self.tiling = drawn.tiling
        self.truth: Literal["clean", "replayed"] = "clean" if truths is not None else "replayed"
        self.crops: list[HeldOutCrop] = []
        total = len(drawn.crops.crops)
        known = iter(truths) if truths is not None else None
        with open_reference(float_model) as session:
            for given, stats in drawn.inputs():
                progress("crops", len(self.crops), total)
                truth = next(known) if known is not None else None
                if truth is None and replay:
                    given, truth = _replayed(session, given, stats)
                truth = None if truth is None else _without_margin(truth, self.tiling)
                self.crops.append(HeldOutCrop(given, stats, self._answer(session, given, stats), truth))
        progress("crops", total, total)

    @property
    def float_fidelity(self) -> Fidelity:
        """Fidelity of the float graph to itself."""
        drop = None if self.crops[0].truth is None else 0.0
        return Fidelity(_EQUAL_DB, drop, drop, len(self.crops))

    def judge(self, model: onnx.ModelProto, scheme: Scheme | None = None) -> Fidelity:
        """Run a graph over the images and return how close it is to float.

        Args:
            model: the graph.
            scheme: its encoding; ONNX Runtime then runs it fused where it computes the scheme exactly, which takes a
                tenth of the time. None for the reference execution.
        """
        with _opened(model, scheme) as session:
            answers = [self._answer(session, crop.given, crop.stats) for crop in self.crops]
        errors = [float(np.square(a - c.float_answer).sum()) for a, c in zip(answers, self.crops, strict=True)]
        mean = sum(errors) / sum(crop.float_answer.size for crop in self.crops)
        drops = [
            psnr_unit(crop.float_answer, crop.truth) - psnr_unit(answer, crop.truth)
            for answer, crop in zip(answers, self.crops, strict=True)
            if crop.truth is not None
        ]
        to_float_db = min(_EQUAL_DB, -10 * math.log10(mean)) if mean else _EQUAL_DB
        if not drops:
            return Fidelity(to_float_db, None)
        counted, least_lsb = noisy_enough(drops, [crop.noise_lsb for crop in self.crops if crop.truth is not None])
        return Fidelity(to_float_db, float(np.mean(counted)), max(counted), len(counted), least_lsb)

    def loss_of(self, fidelity: Fidelity) -> HeldOutLoss | None:
        """Return the loss of a judged graph as bundles record it; None without clean images."""
        if fidelity.drop_db is None or fidelity.worst_drop_db is None:
            return None
        mean_db, worst_db = (round(drop, 4) for drop in (fidelity.drop_db, fidelity.worst_drop_db))
        return HeldOutLoss(mean_db, worst_db, fidelity.images, self.truth, fidelity.least_noise_lsb)

    def middle(self, side_px: int = SENSITIVITY_SIDE_PX) -> Judge:
        """Return a judge on the middle of each image, whose pixels and float outputs are the same."""
        smaller = copy.copy(self)
        smaller.crops = [_middle(crop, side_px, self.tiling) for crop in self.crops]
        return smaller

    def _answer(self, session: CheckedSession, given: NDArray[np.float32], stats: Statistics) -> NDArray[np.float32]:
        """Return (3, h, w) in unit range, without the margin."""
        return _without_margin(np.clip(stats.undo(session.run(given)[0]), 0, 1), self.tiling)


def noisy_enough(drops: Sequence[float], noise_lsb: Sequence[float | None]) -> tuple[list[float], float]:
    """Return the drops of the images on which a graph in integers is to run, and the least noise of these.

    Where images with little noise lose too much, they are left to the float graph: those below the least level above
    which the drops are within `AIM` of what is recommended. At least a third of the images must remain; otherwise, and
    without noise levels, all are returned, with 0.

    Args:
        drops: loss of each image in dB.
        noise_lsb: estimated noise of each image in 8-bit levels; None for unknown.

    Example:
        >>> noisy_enough([0.0, 0.7, 0.0, 0.1], [20.0, 1.5, 10.0, 4.0])
        ([0.0, 0.0, 0.1], 4.0)
    """
    known = [level for level in noise_lsb if level is not None]
    if len(known) == len(drops):
        for least in sorted({0.0, *known}):
            counted = [drop for drop, level in zip(drops, known, strict=True) if level >= least]
            if len(counted) < _LEAST_COUNTED * len(drops):
                break
            if np.mean(counted) <= AIM * MOST_MEAN_LOSS_DB and max(counted) <= AIM * MOST_WORST_LOSS_DB:
                return counted, math.ceil(least * 10) / 10
    return list(drops), 0.0


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
        count: number of images or windows.
        progress: called after each of them.

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
    """Return images, or windows of larger ones, that a network's calibration set does not touch.

    Where calibration has used every image, smaller crops beside those of calibration are taken.

    Args:
        known: the calibration set.
        folder: images, or a text file that lists them.
        manifest: normalization, halo and grid of the network.
        count: number of images or windows.
        noise_levels: levels of synthetic noise to add.
        progress: called after each image.

    Raises:
        CalibrationError: calibration has seen everything, or the folder cannot be used.
    """

    def drawn(side_px: int) -> DrawnSet:
        options = SetOptions(count, known.seed + _HELD_OUT_SEED, side_px, noise_levels)
        return draw_held_out(
            known,
            folder,
            options,
            manifest.input_normalization,
            manifest.tiling,
            progress,
            takes_level=manifest.noise_level is not None,
        )

    try:
        return drawn(JUDGED_SIDE_PX)
    except CalibrationError:
        return drawn(DEFAULT_CROP_PX)


def judged_images(manifest: Manifest) -> int:
    """Return the number of held-out images that a network is judged on: fewer for large networks."""
    affordable = int(_MACS / (manifest.network.macs_per_px * JUDGED_SIDE_PX**2))
    return max(_FEWEST_IMAGES, min(_MOST_IMAGES, affordable))


@contextmanager
def _opened(model: onnx.ModelProto, scheme: Scheme | None) -> Iterator[CheckedSession]:
    """Open a graph: fused where ONNX Runtime computes its scheme exactly, otherwise in the reference execution."""
    if scheme is None or scheme.name not in OnnxRuntime.schemes:
        with open_reference(model.SerializeToString()) as session:
            yield session
        return
    encoding = scheme.encoding
    files = ModelFiles.of_bytes("candidate.onnx", model.SerializeToString())
    variant = Variant("candidate", OnnxRuntime.name, "int8", files.name, encoding)
    with CheckedSession(OnnxRuntime().open(variant, files, "cpu", SessionOptions())) as session:
        yield session


def _replayed(
    session: CheckedSession, given: NDArray[np.float32], stats: Statistics
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a noisy image as a network takes it, (1, C, h, w), and its clean image, (3, h, w) in unit range."""
    noisy = stats.undo(given[0, :CHANNELS])
    clean = np.clip(stats.undo(session.run(given)[0]), 0, 1)
    again = np.clip(clean + (noisy - clean)[:, ::-1, ::-1], 0, 1)
    return np.concatenate([stats.apply(again)[None], given[:, CHANNELS:]], axis=1), clean


def _middle(crop: HeldOutCrop, side_px: int, tiling: Tiling) -> HeldOutCrop:
    """Return the middle of a crop, at most `side_px` a side, on the grid of the network."""
    step, margin = tiling.multiple_of, tiling.margin_px

    def inner(length: int) -> slice:
        side = min(length, side_px // step * step)
        start = (length - side) // 2 // step * step
        return slice(start, start + side)

    rows, columns = (inner(length) for length in crop.float_answer.shape[1:])
    outer = (..., slice(rows.start, rows.stop + 2 * margin), slice(columns.start, columns.stop + 2 * margin))
    return HeldOutCrop(
        np.ascontiguousarray(crop.given[outer]),
        crop.stats,
        crop.float_answer[:, rows, columns],
        None if crop.truth is None else crop.truth[:, rows, columns],
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
