"""The settings of a training run: one class per objective, each with the fields that its objective reads.

`TrainConfig` holds what all runs have; `CBSNConfig`, `SDAPConfig`, `DistillConfig`, `SupervisedConfig`, `QATConfig`
and `SelfQATConfig` add their own. Every config is checked when it is made. No torch here.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, UNIT, Normalization
from edgedenoise.noise.level_estimator import BLOCK_PX
from edgedenoise.noise.synthesis import JPEG_QUALITY_HIGH, JPEG_QUALITY_LOW, MAX_LEVEL
from edgedenoise.training.config.checks import check_fields, converted
from edgedenoise.training.config.presets import PRESETS
from edgedenoise.training.config.text import read_toml, texts_of, toml_value
from edgedenoise.training.config.versions import upgraded
from edgedenoise.training.networks.families import network_spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgedenoise.training.networks.families import NetworkSpec

RUN_CONFIG = "config.toml"
"""Name of the config in a run folder; written before the first step."""
OFFICIAL_STRIDE = 5
"""`blind_stride` of the C-BSN authors; `auto` becomes this when the data check is off."""

_LOCAL_MEAN_CHANNELS = 6  # the same number as in cbsn.py, which imports torch; a test compares them
_TURNS = 8  # flips and turns of a square

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0)]
Stride = Positive | Literal["auto"]
DataCheck = Literal["refuse", "warn", "off"]
Normalized = Literal["patch", "photo"]


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="objective"):
    """What every training run has. Make one with `TrainConfig.named`, or with the class of its objective.

    Raises:
        UsageError: a value is out of range, or two values do not go together.

    Example:
        >>> config = TrainConfig.named("cbsn-24x4", data="photos", out="run", steps=600)
        >>> config.objective, config.steps
        ('cbsn', 600)
        >>> config == CBSNConfig(network="cbsn-24x4", data="photos", out="run", steps=600)
        True
    """

    needed_folders: ClassVar[tuple[str, ...]] = ("out",)
    """Names of the folders that a run cannot start without."""
    trains_blind: ClassVar[bool] = False
    """Whether the objective trains the blind path of a C-BSN."""
    trains_direct: ClassVar[bool] = True
    """Whether the objective trains the path that devices run."""
    quantization_aware: ClassVar[bool] = False
    """Whether the network is trained with fake quantization."""

    version: Literal[3] = 3
    """Version of this schema."""
    network: str = "cbsn-24x4"
    """Name of the network, see `networks.FAMILIES`. The official C-BSN is `cbsn-128x9`."""
    out: str = ""
    """Run folder to make."""
    init: str = ""
    """Run folder or bundle whose weights the network begins with; empty for fresh ones."""

    steps: Positive = 2000
    """Updates of the weights; the schedules scale with it. Officially 500,000."""
    hours: Weight = 0.0
    """Time for the training, from which `steps` is measured when it begins; 0 keeps `steps`. A resumed run keeps its
    steps: set `steps` to lengthen it."""
    patch: Annotated[int, Meta(ge=8)] = 120
    """Side of the training patches in pixels. Officially 120 or 240."""
    batch: Positive = 2
    """Patches per step, over all processes. Officially 4."""
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    """Initial learning rate of Adam. Officially 1e-4, for a network of 128 channels."""
    schedule: Literal["halving", "cosine", "hold", "constant"] = "cosine"
    """How the learning rate falls: halved every fifth of the steps (official), along a cosine to zero, along a cosine
    over the last 30 % of the steps, or never."""
    warmup: Count = 0
    """Steps over which the learning rate rises linearly at the beginning."""
    clip_norm: Weight = 1.0
    """Largest norm of the gradient, beyond which it is scaled down; 0 never does. Officially 0."""
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the weights, which is what is exported; 0 for none. Officially 0."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network in training: bfloat16 by autocast, float32, or bfloat16 where the device computes it
    natively and a measurement confirms that it is faster. A run keeps what `auto` became."""
    compile: bool = False
    """Whether torch.compile fuses the network: minutes at the start, and a C++ compiler on CPUs."""

    held_out: Count | Literal["auto"] = "auto"
    """Images kept from training, on which the best checkpoint is chosen; `auto` is a twentieth of 8 or more."""
    val_clean: str = ""
    """Folder with the ground truth of `val_noisy`, for PSNR and SSIM during training; empty when there is none."""
    val_noisy: str = ""
    """Folder of noisy images that `val_clean` belongs to; empty for the noisy images of the training."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Seed of the first weights and of every crop, turn and sub-sampling."""
    device: Annotated[
        str, Meta(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N, mps")
    ] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Only `auto` chooses."""
    checkpoint_every: Positive = 200
    """Steps between checkpoints, which is what a kill can cost. The last step is always kept."""
    preview_every: Positive = 1000
    """Steps between preview images. The last step always has one."""
    val_every: Positive = 500
    """Steps between validations. The last step always has one."""
    log_every: Positive = 10
    """Steps between rows of `log.csv`. The last step always has one."""
    cache_mb: Count = 2048
    """Decoded images held in memory, in MiB; those beyond are decoded again whenever they are drawn."""
    workers: Count = 1
    """Threads that decode and cut the patches of coming steps; 0 does it between the steps."""

    def __post_init__(self) -> None:
        if type(self) not in OBJECTIVE_CONFIGS.values():
            raise UsageError(
                f"{type(self).__name__} belongs to no objective: expected one of "
                f"{', '.join(kind.__name__ for kind in OBJECTIVE_CONFIGS.values())}",
                hint='Write TrainConfig.named("cbsn-24x4", data="noisy", out="run"), or use the class of an objective.',
            )
        check_fields(self)
        self._check(network_spec(self.network))

    @property
    def spec(self) -> NetworkSpec:
        """Sizes of the network, with the normalization of this run."""
        spec = network_spec(self.network)
        limit = float(getattr(self, "normalization_limit", 0.0))
        if spec.normalization == UNIT or not limit:
            return spec
        return replace(spec, normalization=Normalization.whole_image(limit))

    @property
    def objective(self) -> str:
        """Name of the objective, for example `cbsn`."""
        return str(type(self).__struct_config__.tag)

    @property
    def noisy_images(self) -> str:
        """Folder of the noisy images that are trained on; empty where clean ones are."""
        return str(getattr(self, "data", ""))

    @property
    def clean_images(self) -> str:
        """Folder of the clean images that are read in training; empty when there are none."""
        return str(getattr(self, "clean", ""))

    def _check(self, spec: NetworkSpec) -> None:
        """Check the settings that depend on each other or on the network."""
        if self.trains_blind != spec.has_blind_path and not self.quantization_aware:
            better = ("distill", "supervised") if self.trains_blind else ("cbsn", "sdap")
            raise UsageError(
                f"objective = {self.objective!r} does not train network = {self.network!r}, which has "
                f"{'a' if spec.has_blind_path else 'no'} blind path; accepted with it: {' or '.join(better)}",
                hint=f"Take --objective {better[0]}, or another --network.",
            )
        if self.patch % spec.multiple_of:
            raise UsageError(
                f"patch = {self.patch} must be divisible by {spec.multiple_of} for network = {self.network!r}",
                hint=f"The nearest patch is {-(-self.patch // spec.multiple_of) * spec.multiple_of}.",
            )
        if self.val_noisy and not self.val_clean:
            raise UsageError(
                f"val_noisy = {self.val_noisy!r} is given without val_clean",
                hint="Give the folder of the ground truth with --val-clean, too.",
            )

    @classmethod
    def from_toml(cls, path: Path | str) -> TrainConfig:
        """Read a config file: `key = value` lines named as the fields; a missing key has its default.

        Files that earlier versions wrote are read too.

        Raises:
            UsageError: there is no such file, it is not TOML, or a key or value is not accepted.
        """
        return config_of(read_toml(Path(path)), where=f"the config {path}")

    @classmethod
    def named(cls, name_or_path: Path | str, **values: object) -> TrainConfig:
        """Return the preset or the config file of a name, with some fields set.

        Args:
            name_or_path: a name in `presets.PRESETS`, for example `cbsn-24x4`, or a TOML file.
            values: fields to set, for example `data="photos"`; fields of its objective only.

        Raises:
            UsageError: it is neither, or a key or value is not accepted.

        Example:
            >>> TrainConfig.named("edge-shipped", clean="photos", out="run").objective
            'supervised'
        """
        name = str(name_or_path)
        if name in PRESETS:
            base = config_of(PRESETS[name], where=f"the preset {name}")
        elif not Path(name).exists() and not Path(name).suffix:
            close = difflib.get_close_matches(name, PRESETS, n=1)
            raise UsageError(
                f"there is no config {name!r}: expected a TOML file, or one of {', '.join(PRESETS)}",
                hint=f"Did you mean {close[0]}?" if close else None,
            )
        else:
            base = cls.from_toml(name)
        given = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        return config_of(given, where=f"TrainConfig.named({name!r})", base=base) if given else base

    def with_overrides(self, overrides: Iterable[str]) -> TrainConfig:
        """Return this config with `key=value` texts applied in order, for example `["steps=600", "batch=4"]`.

        Another `objective` keeps the fields that both objectives have.

        Raises:
            UsageError: an override is not `key=value`, or its key or value is not accepted.
        """
        return config_of(dict(texts_of(overrides)), where="an override", base=self, strict=False)

    def to_toml(self) -> str:
        """Return the text that `from_toml` reads back to an equal config."""
        values = {"objective": self.objective, **msgspec.structs.asdict(self)}
        lines = ["# Written by edgedenoise; read it back with --config."]
        return "\n".join([*lines, *(f"{key} = {toml_value(value)}" for key, value in values.items())]) + "\n"


class BlindConfig(TrainConfig, frozen=True, kw_only=True):
    """What the objectives of blind-spot networks share: they learn from noisy images alone."""

    needed_folders: ClassVar[tuple[str, ...]] = ("data", "out")
    trains_blind: ClassVar[bool] = True

    data: str = ""
    """Folder of noisy images, at least `patch` pixels on each side."""
    data_check: DataCheck = "refuse"
    """What happens when the images cannot be trained on: refuse, warn and go on, or do not look."""
    blind_stride: Stride = "auto"
    """Distance in pixels at which the noise is taken to be independent; `auto` measures it. Officially 5."""
    statistics: Normalized = "photo"
    """What a patch is normalised by: itself (official), or the image that it is from, as on a device."""
    normalization_limit: Weight = DEFAULT_LIMIT
    """Largest absolute value that normalized pixels may have: images that exceed it are divided by more than their
    deviation, which INT8 needs. 0 sets no limit (official)."""
    first_weights: Literal["he", "local-mean"] = "local-mean"
    """First weights: He fan-in (official), or such that the network begins as a local mean, which suits short
    trainings."""
    val_mode: Literal["direct", "stride2", "stride2-enhanced"] = "direct"
    """How `val_noisy` is denoised; see `inference.MODES`. Devices run `direct`."""

    @property
    def stride(self) -> int:
        """`blind_stride` as a number; raises UsageError while it is `auto`."""
        return settled_stride(self.blind_stride)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        if self.first_weights == "local-mean" and spec.arguments["width"] < _LOCAL_MEAN_CHANNELS:
            raise UsageError(
                f"first_weights = 'local-mean' needs {_LOCAL_MEAN_CHANNELS} channels, and network = "
                f"{self.network!r} has {spec.arguments['width']}",
                hint="Take a wider network, or first_weights = 'he'.",
            )
        _check_strides(self.patch, spec, self._strides())

    def _strides(self) -> dict[str, int | str]:
        """Return everything that must divide a patch, by name."""
        return {"blind_stride": self.blind_stride}


class CBSNConfig(BlindConfig, frozen=True, kw_only=True, tag="cbsn"):
    """C-BSN (Jang et al., ICCV 2023), from noisy images alone: L_blind + s (L_self + lambda L_inv).

    Example:
        >>> CBSNConfig(data="photos", out="run", blind_stride=4).patch
        120
    """

    ramp_fraction: Share = 0.4
    """Part of the steps over which s grows to 1. Officially 0.4."""
    lambda_inv: Weight = 2.0
    """Weight of L_inv against L_self. Officially 2."""
    blind_sampler: Literal["lattice", "permuted"] = "lattice"
    """How L_blind takes an image apart: every `blind_stride`-th pixel (official), or SDAP's random permutation."""
    sub_stride: Positive = 2
    """Cell of the random sub-sampler. Officially 2."""

    def _strides(self) -> dict[str, int | str]:
        return {**super()._strides(), "sub_stride": self.sub_stride}


class SDAPConfig(BlindConfig, frozen=True, kw_only=True, tag="sdap"):
    """SDAP (Pan et al., ICCV 2023), from noisy images alone; it trains only the blind path."""

    trains_direct: ClassVar[bool] = False


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
        _check_strides(self.patch, spec, {"blind_stride": self.blind_stride})


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
        return names_of(self.float_layers)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        scheme_named(self.scheme)
        if spec.normalization != UNIT:
            raise UsageError(
                f"objective = 'qat' on clean images does not train network = {self.network!r}, whose input is "
                "normalised: expected qat-self, on noisy images",
                hint="Give a folder of noisy images with --data instead of --clean.",
            )


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
        return names_of(self.float_layers)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        scheme_named(self.scheme)
        if self.loss == "psnr" and spec.normalization != UNIT:
            raise UsageError(
                f"loss = 'psnr' is for pixels in [0, 1], and network = {self.network!r} gives normalised ones; "
                "accepted with it: l1, charbonnier",
                hint="Take --set loss=charbonnier.",
            )


OBJECTIVE_CONFIGS: Final[dict[str, type[TrainConfig]]] = {
    "cbsn": CBSNConfig,
    "sdap": SDAPConfig,
    "distill": DistillConfig,
    "supervised": SupervisedConfig,
    "qat": QATConfig,
    "qat-self": SelfQATConfig,
}
"""Name of an objective -> its config."""


def config_of(
    values: dict[str, Any], *, where: str, base: TrainConfig | None = None, strict: bool = True
) -> TrainConfig:
    """Return the config that flat values mean: `objective` chooses the class, the rest are its fields.

    Args:
        values: by name. `objective = "qat"` with `data` in place of `clean` is `qat-self`.
        where: names the source of the values, for errors.
        base: config whose fields are kept where `values` has none; None for the defaults.
        strict: without it, texts become numbers where their fields are numbers.

    Raises:
        UsageError: a key or a value is not accepted.
    """
    kind = _kind_of(values, base, where)
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values = upgraded(values, frozenset(types))
    given = {key: value for key, value in values.items() if key != "objective"}
    for key in given:
        if key not in types:
            raise _unknown(key, kind, where)
    kept = {} if base is None else {key: getattr(base, key) for key in types if hasattr(base, key)}
    new = {key: converted(key, value, types[key], strict=strict, where=where) for key, value in given.items()}
    return kind(**{**kept, **new})


def names_of(text: str) -> list[str]:
    """Return the names that a text lists, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def settled_stride(blind_stride: int | str) -> int:
    """Return a `blind_stride` that is a number.

    Raises:
        UsageError: it is still `auto`; `train` measures and settles it.
    """
    if not isinstance(blind_stride, int):
        raise UsageError("blind_stride = 'auto' has not been settled", hint="Give a number, officially 5.")
    return blind_stride


def _kind_of(values: dict[str, Any], base: TrainConfig | None, where: str) -> type[TrainConfig]:
    """Return the class of config that some values are for."""
    name = values.get("objective", "cbsn" if base is None else base.objective)
    if name not in OBJECTIVE_CONFIGS:
        raise UsageError(
            f"{where} has objective = {name!r}, which is not accepted: expected {', '.join(OBJECTIVE_CONFIGS)}"
        )
    if name == "qat":
        data, clean = (values.get(key, getattr(base, key, "")) for key in ("data", "clean"))
        name = "qat-self" if data and not clean else "qat"
    return OBJECTIVE_CONFIGS[name]


_NEAREST = 4  # settings that the error for an unknown one names


def _unknown(key: str, kind: type[TrainConfig], where: str) -> UsageError:
    """Return the error for a setting that an objective does not have."""
    accepted = sorted(kind.__struct_fields__)
    owners = [name for name, other in OBJECTIVE_CONFIGS.items() if key in other.__struct_fields__]
    close = difflib.get_close_matches(key, accepted, n=1)
    nearest = difflib.get_close_matches(key, accepted, n=_NEAREST, cutoff=0.0)
    if close:
        hint = f"Did you mean {close[0]}?"
    else:
        hint = "Every setting and its default: the config.toml of a run, or TrainConfig.to_toml() in Python."
    if owners:
        hint = f"{key} belongs to objective = {', '.join(owners)}. Leave it out, or take another --objective."
    return UsageError(
        f"{where} has the unknown setting {key!r}: expected one of the settings of objective = "
        f"{str(kind.__struct_config__.tag)!r}: {', '.join(nearest)} and {len(accepted) - len(nearest)} more",
        hint=hint,
    )


def _check_strides(patch: int, spec: NetworkSpec, strides: dict[str, int | str]) -> None:
    """Check that a patch can be split by all strides that are settled."""
    step = math.lcm(spec.multiple_of, *(stride for stride in strides.values() if isinstance(stride, int)))
    if patch % step:
        below, above = patch // step * step, (patch // step + 1) * step
        raise UsageError(
            f"patch = {patch} must be divisible by {' and by '.join(f'{k} = {v}' for k, v in strides.items())}",
            hint=f"The nearest patches are {below} and {above}." if below else f"The smallest patch is {above}.",
        )
