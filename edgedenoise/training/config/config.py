"""What a training run is: network x objective x data in one typed, versioned config. No torch here.

A config comes from Python, from a TOML file and from `key=value` overrides, and is checked each time.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgedenoise.errors import UsageError
from edgedenoise.training.config.checks import check
from edgedenoise.training.config.presets import PRESETS
from edgedenoise.training.config.text import checked, load_toml, texts_of, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN_CONFIG = "config.toml"
"""Name of the config in a run folder; written before the first step."""
OFFICIAL_STRIDE = 5
"""`blind_stride` of the authors, and what `auto` comes to when nobody looked at the data."""
BLIND_OBJECTIVES = ("sdap",)
"""Objectives that only train the blind network: the path that devices run would be left untrained."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    Raises:
        UsageError: a value is out of range, or two values do not go together.
    """

    version: Literal[1] = 1
    """Of this schema."""

    network: str = "cbsn-24x4"
    """See `networks.FAMILIES`. The official C-BSN is `cbsn-128x9`."""
    objective: Literal["cbsn", "sdap", "distill", "supervised", "qat"] = "cbsn"
    """What one step minimises; see `objectives.OBJECTIVES`."""
    data: str = ""
    """Folder of noisy images, at least `patch` pixels on each side; `supervised` needs none."""
    clean: str = ""
    """Folder of clean images, at least `patch` + 8 pixels on each side: what `supervised` and `qat` add noise to;
    for `distill`, the ground truth of `data`."""
    teacher: str = ""
    """Folder of the run whose network `distill` learns from."""
    out: str = ""
    """Run folder that is made."""
    init: str = ""
    """Run folder or bundle whose weights the network begins with; empty for fresh ones."""

    steps: int = 2000
    """Updates of the weights; the schedules below scale with it. Officially 500,000."""
    hours: float = 0.0
    """Time for the training, from which `steps` is measured and set when it begins; 0 leaves `steps` as it is.
    A run that goes on keeps its steps: give `steps` to lengthen it."""
    patch: int = 120
    """Side of the crops in pixels, divisible by `blind_stride` and `sub_stride`. Officially 120 or 240."""
    batch: int = 2
    """Crops per step, over all processes. Officially 4."""
    learning_rate: float = 1e-3
    """Of Adam, at the beginning. Officially 1e-4, for a network of 128 channels."""
    schedule: Literal["halving", "cosine", "constant"] = "cosine"
    """How the learning rate falls: halved every fifth of the steps (official), along a cosine to zero, or never."""
    clip_norm: float = 1.0
    """Largest norm of the gradient, beyond which it is scaled down; 0 never does. Officially 0."""
    ema_decay: float = 0.999
    """Of the running mean of the weights, which is what is exported; 0 for none. Officially 0."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's arithmetic in training; `bf16` is autocast, for GPUs and CPUs that are fast in it."""
    compile: bool = False
    """Whether torch.compile fuses the network: minutes at the start, and a C++ compiler on CPUs."""

    ramp_fraction: float = 0.4
    """Part of the steps over which s of L_blind + s (L_self + lambda L_inv) grows to 1. Officially 0.4."""
    lambda_inv: float = 2.0
    """Weight of L_inv against L_self. Officially 2."""
    blind_stride: int | Literal["auto"] = "auto"
    """Distance in pixels at which the noise is taken to be independent; `auto` asks the data. Officially 5."""
    blind_sampler: Literal["lattice", "permuted"] = "lattice"
    """How L_blind takes an image apart: every `blind_stride`-th pixel (official), or SDAP's random permutation."""
    sub_stride: int = 2
    """Cell of the random sub-sampler. Officially 2."""
    statistics: Literal["patch", "photo"] = "photo"
    """What a crop is normalised by: itself (official), or the image that it is from, as on a device."""
    first_weights: Literal["he", "local-mean"] = "local-mean"
    """Of a C-BSN: He fan-in (official), or such that it begins as a local mean, which suits short trainings.
    Students begin as the identity."""

    loss: Literal["l1", "charbonnier", "psnr"] = "charbonnier"
    """Between a student's answer and its target; see `reconstruction.LOSSES`."""
    laplacian: float = 0.1
    """Weight of the difference of Laplacians beside it; `psnr` is in dB, and needs more of it to be felt."""
    darken: float = 0.4
    """Least gain that patches of students are multiplied by; 1 leaves them alone."""
    magnify: float = 2.0
    """Most that clean patches are magnified by before noise is added: 1 for images as sharp as a camera's."""
    noise_low: float = 0.0
    """Least level of the noise that `supervised` adds: 0 is a camera's lowest ISO; see `noise.sample_noise`."""
    noise_high: float = 1.0
    """Most of it: 1 is a camera's highest ISO."""
    noise_power: float = 1.0
    """Levels are drawn as low + u^power (high - low), u even in [0, 1]: below 1 there is more strong noise."""
    jpeg_share: float = 0.5
    """Part of the patches that `supervised` sends through JPEG."""
    views: int = 1
    """Non-blind answers of the teacher that are targets of a step of `distill`, each of another flip or turn."""
    blind_views: int = 1
    """Blind answers beside them, of random sub-samples; the stronger the noise, the more they are worth."""
    recharge: float = 0.1
    """Part of the pixels of one of these targets that are the noisy image's."""
    noise_jitter: float = 0.2
    """How far `distill` scales the noise that the student sees, taken to be what the teacher removes."""
    scheme: str = "u8s7"
    """Of `qat`: how activations and weights become integers; see `calibration/schemes.py`."""
    observe_fraction: float = 0.3
    """Part of the steps of `qat` over which ranges of activations follow the batches, before they are frozen."""

    held_out: int | Literal["auto"] = "auto"
    """Images kept from training, on which the best checkpoint is chosen; `auto` is a twentieth of 8 or more."""
    val_clean: str = ""
    """Folder with the ground truth of `val_noisy`, for PSNR and SSIM during training; empty when there is none."""
    val_noisy: str = ""
    """Noisy images that `val_clean` belongs to; empty for those of `data`."""
    val_mode: Literal["direct", "stride2", "stride2-enhanced"] = "direct"
    """How `val_noisy` is denoised; see `inference.MODES`. Devices run `direct`."""
    data_check: Literal["refuse", "warn", "off"] = "refuse"
    """What happens when the images cannot be trained on: refuse, warn and go on, or do not look."""

    seed: int = 0
    """Of the first weights and of every crop, turn and sub-sampling."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Only `auto` chooses."""
    checkpoint_every: int = 200
    """Steps between checkpoints, which is what a kill can cost. The last step is always kept."""
    preview_every: int = 1000
    """Steps between preview images. The last step always has one."""
    val_every: int = 500
    """Steps between validations. The last step always has one."""
    log_every: int = 10
    """Steps between rows of `log.csv`. The last step always has one."""
    cache_mb: int = 2048
    """Decoded images held in memory, in MiB; those beyond are decoded again whenever they are drawn."""
    workers: int = 1
    """Threads that decode and cut the patches of coming steps; 0 does it between the steps."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def trains_blind(self) -> bool:
        """Whether the objective trains a blind network."""
        return self.objective in ("cbsn", "sdap")

    @property
    def needed_folders(self) -> tuple[str, ...]:
        """Keys of the folders that a run cannot do without."""
        photographs = "clean" if self.objective == "supervised" or (self.objective == "qat" and self.clean) else "data"
        more = {"distill": ("teacher",), "qat": ("init",)}.get(self.objective, ())
        return (photographs, *more, "out")

    @property
    def stride(self) -> int:
        """`blind_stride` as a number.

        Raises:
            UsageError: it is still `auto`; `trainer.train` asks the data and settles it.
        """
        if self.blind_stride == "auto":
            raise UsageError("blind_stride = 'auto' has not been settled", hint="Give a number, officially 5.")
        return self.blind_stride

    @classmethod
    def from_toml(cls, path: Path | str) -> TrainConfig:
        """Read a config file: `key = value` lines named as the fields here; what is left out has its default.

        Raises:
            UsageError: there is no such file, it is not TOML, or a key or value is not accepted.
        """
        path = Path(path)
        try:
            values = load_toml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"the config {path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
            raise UsageError(
                f"the config {path} is not TOML: {error}",
                hint='Write lines such as: network = "cbsn-24x4"',
            ) from None
        return cls(**checked(cls, values, where=f"the config {path}", strict=True))

    @classmethod
    def named(cls, name_or_path: Path | str) -> TrainConfig:
        """Return a config by its name in `presets.PRESETS`, or else from a file of that name.

        Raises:
            UsageError: it is neither, or what `from_toml` raises.
        """
        name = str(name_or_path)
        if name in PRESETS:
            return cls(**PRESETS[name])
        if not Path(name).exists() and not Path(name).suffix:
            close = difflib.get_close_matches(name, PRESETS, n=1)
            raise UsageError(
                f"there is no config {name!r}; accepted: a TOML file, or one of {', '.join(PRESETS)}",
                hint=f"Did you mean {close[0]}?" if close else None,
            )
        return cls.from_toml(name)

    def with_overrides(self, overrides: Iterable[str]) -> TrainConfig:
        """Return this config with `key=value` texts applied in order, for example `["steps=600", "batch=4"]`.

        Raises:
            UsageError: an override is not `key=value`, or its key or value is not accepted.
        """
        return msgspec.structs.replace(
            self, **checked(TrainConfig, dict(texts_of(overrides)), where="an override", strict=False)
        )

    def to_toml(self) -> str:
        """Return the text that `from_toml` reads back to an equal config."""
        lines = ["# Written by edgedenoise; read it back with --config."]
        lines += [f"{key} = {toml_value(value)}" for key, value in msgspec.structs.asdict(self).items()]
        return "\n".join(lines) + "\n"


def settings(config: Path | str | None, overrides: Iterable[str], *, resume: bool = False) -> TrainConfig:
    """Return the config that a command line means.

    Args:
        config: name or file, see `TrainConfig.named`; None for the run's own on a resume, and else the defaults.
        overrides: `key=value` texts, which win. `init` brings its own network unless one is named, and takes the
            place of fresh weights.
        resume: whether a run goes on.

    Raises:
        UsageError: a name, a key or a value is not accepted.
        TrainingError: `init` is neither a run nor a bundle.
    """
    values = texts_of(overrides)
    out = values.get("out")
    if config is None and resume and out and (Path(out) / RUN_CONFIG).is_file():
        config = Path(out) / RUN_CONFIG  # a run knows its own settings
    base = TrainConfig() if config is None else TrainConfig.named(config)
    if values.get("init") and "network" not in values and config is None:
        from edgedenoise.training.initial_weights import network_of  # torch, only now

        values["network"] = network_of(values["init"])
    return base.with_overrides([f"{key}={value}" for key, value in values.items()])
