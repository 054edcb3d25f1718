"""Settings of the objectives that compare an answer with a target: students, and training in 8 bits. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, UNIT
from edgedenoise.noise.level_estimator import BLOCK_PX
from edgedenoise.noise.synthesis import JPEG_QUALITY_HIGH, JPEG_QUALITY_LOW, MAX_LEVEL
from edgedenoise.training.config.base import (
    Count,
    DataCheck,
    Normalized,
    Positive,
    Share,
    TrainConfig,
    Weight,
    objective_config,
)
from edgedenoise.training.config.blind import Stride, check_strides, settled_stride

if TYPE_CHECKING:
    from edgedenoise.training.networks.families import NetworkSpec

_TURNS = 8  # flips and turns of a square


class StudentConfig(TrainConfig, frozen=True, kw_only=True):
    """What the objectives share that compare an answer with a target."""

    loss: Literal["l1", "charbonnier", "psnr"] = "charbonnier"
    """Distance between answer and target; see `reconstruction.LOSSES`."""
    laplacian: Weight = 0.1
    """Weight of the difference of Laplacians beside it; `psnr` is in dB, and needs a larger one."""

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        if spec.level_planes and self.patch < BLOCK_PX:
            raise UsageError(
                f"patch = {self.patch} is too small for network = {self.network!r}: expected at least {BLOCK_PX}",
                hint="Take --set patch=80.",
            )


@objective_config
class DistillConfig(StudentConfig, frozen=True, kw_only=True, tag="distill"):
    """A student from a C-BSN teacher, on noisy images alone.

    Example:
        >>> DistillConfig(network="edge", data="photos", teacher="runs/cbsn", out="run").views
        1
    """

    needed_folders: ClassVar[tuple[str, ...]] = ("data", "teacher", "out")

    data: str = ""
    """Folder of noisy images, at least `patch` pixels on each side."""
    data_check: DataCheck = "refuse"
    """What happens when the images cannot be trained on: refuse, warn and go on, or do not look."""
    clean: str = ""
    """Folder with the ground truth of `data`; empty when there is none."""
    teacher: str = ""
    """Folder of the run whose network is the teacher."""
    blind_stride: Stride = "auto"
    """Distance in pixels at which the noise is taken to be independent; `auto` measures it."""
    darken: Annotated[float, Meta(gt=0, le=1)] = 0.4
    """Smallest gain that patches are multiplied by; 1 leaves them unchanged."""
    views: Positive = 1
    """Non-blind answers of the teacher that are targets of a step, each of another flip or turn."""
    blind_views: Count = 1
    """Blind answers beside them, of random sub-samples; the stronger the noise, the more they help."""
    recharge: Share = 0.1
    """Part of the pixels of one of these targets that are taken from the noisy image."""
    noise_jitter: Share = 0.2
    """How far the noise that the student sees is scaled, taken to be what the teacher removes."""

    @property
    def stride(self) -> int:
        """`blind_stride` as a number; raises UsageError while it is `auto`."""
        return settled_stride(self.blind_stride)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        if spec.level_planes:
            raise UsageError(
                f"objective = 'distill' does not train network = {self.network!r}, which has a level plane; accepted "
                "with it: edge-tiny, edge, edge-plus",
                hint="Take --network edge, or --objective supervised with --clean.",
            )
        if self.views + self.blind_views > _TURNS:
            raise UsageError(
                f"views = {self.views} and blind_views = {self.blind_views} are too many: expected together at most "
                f"{_TURNS}, each of another flip or turn"
            )
        check_strides(self.patch, spec, {"blind_stride": self.blind_stride})


@objective_config
class SupervisedConfig(StudentConfig, frozen=True, kw_only=True, tag="supervised"):
    """A student from clean images with synthetic camera noise.

    Example:
        >>> SupervisedConfig(network="edge", clean="photos", out="run", noise_high=1.1).noise_low
        0.0
    """

    needed_folders: ClassVar[tuple[str, ...]] = ("clean", "out")

    clean: str = ""
    """Folder of clean images, at least `patch` + 8 pixels on each side, or `tile` where that is set."""
    darken: Annotated[float, Meta(gt=0, le=1)] = 0.4
    """Smallest gain that patches are multiplied by; 1 leaves them unchanged."""
    magnify: Annotated[float, Meta(ge=1, le=8)] = 2.0
    """Largest factor that clean patches are magnified by before noise is added: 1 for images as sharp as a
    camera's."""
    noise_low: Annotated[float, Meta(ge=0, le=MAX_LEVEL)] = 0.0
    """Lowest level of the added noise: 0 is a camera's lowest ISO; see `noise.synthesis.sample_noise`."""
    noise_high: Annotated[float, Meta(ge=0, le=MAX_LEVEL)] = 1.0
    """Highest level: 1 is a camera's highest ISO."""
    noise_power: Annotated[float, Meta(gt=0)] = 1.0
    """Levels are drawn as low + u^power (high - low), u uniform in [0, 1]: below 1 there is more strong noise."""
    jpeg_share: Share = 0.5
    """Part of the patches that are compressed as JPEG."""
    jpeg_quality_low: Annotated[int, Meta(ge=1, le=JPEG_QUALITY_HIGH)] = JPEG_QUALITY_LOW
    """Lowest quality of that JPEG; the highest is 98."""
    jpeg_chroma_whole_share: Share = 0.0
    """Part of the patches whose JPEG has chroma at full size; for the others it is halved."""
    coarse_share: Share = 0.0
    """Part of the patches that get noise with grains of 3 to 6 pixels beside the sensor's."""
    coarse_low: Weight = 0.2
    """Smallest root mean square of that noise, as a multiple of the sensor's."""
    coarse_high: Weight = 0.8
    """Largest root mean square of that noise, as a multiple of the sensor's."""
    denoised_share: Share = 0.0
    """Part of the patches whose noise is smoothed as a camera's own denoising does, texture less than the rest."""
    black_share: Share = 0.0
    """Part of the patches whose shadows are cut off at black, by up to 2 % of white, with their noise clipped there."""
    weak_share: Share = 0.0
    """Part of the patches whose noise is scaled down by a random factor between 0 and 1."""

    tile: Count = 0
    """Side of the tiles in pixels to which noise is added and from which patches are cut; 0 adds noise to every patch
    by itself. With 256, a patch takes less time, and its noise level is measured more exactly."""
    tile_uses: Positive = 8
    """Steps for which a tile is kept; each cuts one patch from it."""
    level_jitter: Weight = 0.2
    """Standard deviation of log(level / true level), for networks with a level plane."""
    estimated_level_share: Share = 0.0
    """Part of the tiles whose level plane comes from the noise estimator, which devices use, instead of from the true
    noise; for networks with a level plane. Needs `tile`."""
    psnr_floor_steps: Count = 0
    """Steps over which the floor of the loss `psnr` falls from 30 dB to 50 dB. A new network then learns strong noise
    first."""

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        for low, high in (("noise_low", "noise_high"), ("coarse_low", "coarse_high")):
            if getattr(self, low) > getattr(self, high):
                raise UsageError(
                    f"{low} = {getattr(self, low)} and {high} = {getattr(self, high)} are not accepted: expected {low} "
                    f"at most {high}"
                )
        if 0 < self.tile < self.patch:
            raise UsageError(
                f"tile = {self.tile} is smaller than patch = {self.patch}: expected 0, or at least patch",
                hint="Take --set tile=256, or --set tile=0 for noise on every patch by itself.",
            )
        if self.estimated_level_share and not self.tile:
            raise UsageError(
                f"estimated_level_share = {self.estimated_level_share} needs tiles, because a patch is too small to "
                "estimate its noise: expected tile above 0, got tile = 0",
                hint="Take --set tile=256.",
            )
        if self.val_clean and not self.val_noisy:
            raise UsageError(
                f"val_clean = {self.val_clean!r} is given without val_noisy, and objective = {self.objective!r} "
                "has no noisy images that it could belong to",
                hint="Give the folder of their noisy images with --val-noisy, too.",
            )


@objective_config
class QATConfig(SupervisedConfig, frozen=True, kw_only=True, tag="qat"):
    """Quantization-aware training of the network of `init`, on clean images with synthetic noise.

    Example:
        >>> QATConfig(network="edge", init="runs/edge", clean="photos", out="run", scheme="s8s8").observe_fraction
        0.3
    """

    needed_folders: ClassVar[tuple[str, ...]] = ("clean", "init", "out")
    quantization_aware: ClassVar[bool] = True

    scheme: str = "u8s7"
    """How activations and weights become integers; see `calibration/schemes.py`."""
    observe_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.3
    """Part of the steps over which ranges of activations follow the batches, before they are frozen."""
    float_layers: str = ""
    """Layers that stay in float, separated by commas, for example `tail3,tail4`; a module's name stands for all of its
    layers."""

    @property
    def layers_in_float(self) -> list[str]:
        """Return the names of `float_layers`."""
        return _names(self.float_layers)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        scheme_named(self.scheme)
        if spec.normalization != UNIT:
            raise UsageError(
                f"objective = 'qat' on clean images does not train network = {self.network!r}, whose input is "
                "normalised: expected qat-self, on noisy images",
                hint="Give a folder of noisy images with --data instead of --clean.",
            )


@objective_config
class SelfQATConfig(StudentConfig, frozen=True, kw_only=True, tag="qat-self"):
    """Quantization-aware training of the network of `init` towards its own float outputs, on noisy images.

    Example:
        >>> SelfQATConfig(network="cbsn-24x4", init="runs/cbsn", data="photos", out="run").scheme
        'u8s7'
    """

    needed_folders: ClassVar[tuple[str, ...]] = ("data", "init", "out")
    quantization_aware: ClassVar[bool] = True

    data: str = ""
    """Folder of noisy images, at least `patch` pixels on each side."""
    data_check: DataCheck = "refuse"
    """What happens when the images cannot be trained on: refuse, warn and go on, or do not look."""
    statistics: Normalized = "photo"
    """What a patch is normalised by, for networks that need it: itself, or the image that it is from."""
    normalization_limit: Weight = DEFAULT_LIMIT
    """Largest absolute value that normalized pixels may have, for networks that need it; 0 sets no limit."""
    scheme: str = "u8s7"
    """How activations and weights become integers; see `calibration/schemes.py`."""
    observe_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.3
    """Part of the steps over which ranges of activations follow the batches, before they are frozen."""
    float_layers: str = ""
    """Layers that stay in float, separated by commas, for example `tail3,tail4`; a module's name stands for all of its
    layers."""

    @property
    def layers_in_float(self) -> list[str]:
        """Return the names of `float_layers`."""
        return _names(self.float_layers)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        scheme_named(self.scheme)
        if self.loss == "psnr" and spec.normalization != UNIT:
            raise UsageError(
                f"loss = 'psnr' is for pixels in [0, 1], and network = {self.network!r} gives normalised ones; "
                "accepted with it: l1, charbonnier",
                hint="Take --set loss=charbonnier.",
            )


def _names(text: str) -> list[str]:
    """Return the names that a text lists, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
