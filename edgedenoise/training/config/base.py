"""What the settings of all training runs share, and how a config is made from values by name. No torch here."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import UNIT, Normalization
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

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0)]
DataCheck = Literal["refuse", "warn", "off"]
Normalized = Literal["patch", "photo"]

OBJECTIVE_CONFIGS: Final[dict[str, type[TrainConfig]]] = {}
"""Name of an objective -> its config; filled by `objective_config`."""

Config = TypeVar("Config", bound="type[TrainConfig]")


def objective_config(kind: Config) -> Config:
    """Register a class as the config of the objective that its tag names; a decorator."""
    OBJECTIVE_CONFIGS[str(kind.__struct_config__.tag)] = kind
    return kind


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="objective"):
    """What every training run has. Make one with `TrainConfig.named`, or with the class of its objective.

    Raises:
        UsageError: a value is out of range, or two values do not go together.

    Example:
        >>> config = TrainConfig.named("cbsn-24x4", data="photos", out="run", steps=600)
        >>> config.objective, config.steps
        ('cbsn', 600)
        >>> type(config).__name__
        'CBSNConfig'
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


def _kind_of(values: dict[str, Any], base: TrainConfig | None, where: str) -> type[TrainConfig]:
    """Return the class of config that some values are for."""
    name = values.get("objective", "cbsn" if base is None else base.objective)
    if not isinstance(name, str) or name not in OBJECTIVE_CONFIGS:
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
