"""Which settings of a training run are accepted, alone and together. No torch here."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import UsageError
from edgedenoise.noise.synthesis import MAX_LEVEL
from edgedenoise.training.networks.families import network_spec

if TYPE_CHECKING:
    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.networks.families import NetworkSpec

_LOCAL_MEAN_CHANNELS = 6  # what cbsn.py, which imports torch, says too; a test compares them

_FOLDERS_OF = {
    "data": ("cbsn", "sdap", "distill", "qat"),
    "clean": ("distill", "supervised", "qat"),
    "teacher": ("distill",),
}  # folder -> the objectives that read it

_TURNS = 8  # flips and turns of a square

_MINIMUM = {
    "steps": 1,
    "patch": 8,
    "batch": 1,
    "blind_stride": 1,
    "sub_stride": 1,
    "views": 1,
    "blind_views": 0,
    "held_out": 0,
    "seed": 0,
    "checkpoint_every": 1,
    "preview_every": 1,
    "val_every": 1,
    "log_every": 1,
    "cache_mb": 0,
    "workers": 0,
}

_NOT_NEGATIVE = {
    "laplacian": "0 for none",
    "noise_jitter": "0 for none",
    "lambda_inv": "officially 2",
    "hours": "0 for `steps` as given",
    "clip_norm": "0 to leave gradients alone",
}


def check(config: TrainConfig) -> None:
    """Make sure that a config can be trained.

    Raises:
        UsageError: a setting is not accepted, or does not go with another one.
    """
    spec = network_spec(config.network)
    _check_numbers(config)
    _check_network(config, spec)
    _check_objective(config, spec)
    _check_noise(config)
    _check_patch(config, spec)


def _check_numbers(config: TrainConfig) -> None:
    for key, low in _MINIMUM.items():
        if getattr(config, key) != "auto" and getattr(config, key) < low:
            raise UsageError(f"{key} = {getattr(config, key)} is too small; accepted: {low} and more")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise UsageError(f"learning_rate = {config.learning_rate} is not accepted: it must be above 0, e.g. 1e-3")
    for key, advice in _NOT_NEGATIVE.items():
        if not (math.isfinite(getattr(config, key)) and getattr(config, key) >= 0):
            raise UsageError(f"{key} = {getattr(config, key)} is not accepted: it must be 0 or more, {advice}")
    if not 0 <= config.ema_decay < 1:
        raise UsageError(f"ema_decay = {config.ema_decay} is not accepted: it is 0 or more and below 1, e.g. 0.999")
    if not 0 <= config.ramp_fraction <= 1:
        raise UsageError(f"ramp_fraction = {config.ramp_fraction} is not accepted: it is a part of the steps, 0 to 1")
    if config.seed >= 2**63:
        raise UsageError(f"seed = {config.seed} is too large; accepted: 0 to 2^63 - 1")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", config.device):
        raise UsageError(f"device = {config.device!r} is not accepted; accepted: auto, cpu, cuda, cuda:N, mps")


def _check_network(config: TrainConfig, spec: NetworkSpec) -> None:
    """Make sure that first weights and validation are ones that the network has."""
    if config.first_weights == "local-mean" and spec.has_blind_path and spec.arguments["width"] < _LOCAL_MEAN_CHANNELS:
        raise UsageError(
            f"first_weights = 'local-mean' needs {_LOCAL_MEAN_CHANNELS} channels, and network = "
            f"{config.network!r} has {spec.arguments['width']}",
            hint="Take a wider network, or first_weights = 'he'.",
        )
    if config.val_noisy and not config.val_clean:
        raise UsageError(
            f"val_noisy = {config.val_noisy!r} is given without val_clean",
            hint="Give the ground truth: --val-clean DIR.",
        )
    if config.val_clean and not config.val_noisy and not config.data and config.clean:
        raise UsageError(
            f"val_clean = {config.val_clean!r} is given without val_noisy, and objective = {config.objective!r} "
            "has no noisy images that it could belong to",
            hint="Give the noisy images: --val-noisy DIR.",
        )
    if config.val_mode != "direct" and not spec.has_blind_path:
        raise UsageError(
            f"val_mode = {config.val_mode!r} needs a blind path, which network = {config.network!r} has not",
            hint="Take val_mode = 'direct', which is what devices run.",
        )


def _check_objective(config: TrainConfig, spec: NetworkSpec) -> None:
    """Make sure that the objective can train the network."""
    if config.objective == "qat":
        scheme_named(config.scheme)
        if config.observe_fraction == 0:
            raise UsageError(
                "observe_fraction = 0 is not accepted with objective = 'qat': ranges are seen, then frozen",
                hint="For example 0.3.",
            )
        if config.loss == "psnr" and spec.normalization != "unit":
            raise UsageError(
                f"loss = 'psnr' is for pixels in [0, 1], and network = {config.network!r} gives normalised ones; "
                "accepted with it: l1, charbonnier",
                hint="Take --set loss=charbonnier.",
            )
        if config.clean and spec.normalization != "unit":
            raise UsageError(
                f"clean = {config.clean!r} cannot teach network = {config.network!r} in 8 bits; accepted with it: data",
                hint="Give noisy images: --data DIR.",
            )
        if config.clean and config.data:
            raise UsageError(
                f"data = {config.data!r} and clean = {config.clean!r} are given; objective = 'qat' learns from one",
                hint="Leave one of them out.",
            )
    elif config.trains_blind != spec.has_blind_path:
        better = ("distill", "supervised") if config.trains_blind else ("cbsn", "sdap")
        raise UsageError(
            f"objective = {config.objective!r} does not train network = {config.network!r}, which has "
            f"{'a' if spec.has_blind_path else 'no'} blind path; accepted with it: {' or '.join(better)}",
            hint=f"Take --objective {better[0]}, or another --network.",
        )
    for key, users in _FOLDERS_OF.items():
        if getattr(config, key) and config.objective not in users:
            raise UsageError(
                f"{key} = {getattr(config, key)!r} is of no use to objective = {config.objective!r}; "
                f"accepted with it: {', '.join(users)}",
                hint=f"Leave {key} out, or take another --objective.",
            )


def _check_noise(config: TrainConfig) -> None:
    """Make sure that the noise and the images of students are possible ones."""
    if not 0 <= config.noise_low <= config.noise_high <= MAX_LEVEL:
        raise UsageError(
            f"noise_low = {config.noise_low} and noise_high = {config.noise_high} are not accepted: "
            f"0 <= noise_low <= noise_high <= {MAX_LEVEL}"
        )
    for key in ("jpeg_share", "recharge", "observe_fraction"):
        if not 0 <= getattr(config, key) <= 1:
            raise UsageError(f"{key} = {getattr(config, key)} is not accepted: it is a part of the whole, 0 to 1")
    for key in ("darken", "noise_power"):
        if not (math.isfinite(getattr(config, key)) and getattr(config, key) > 0):
            raise UsageError(f"{key} = {getattr(config, key)} is not accepted: it must be above 0")
    if config.views + config.blind_views > _TURNS:
        raise UsageError(
            f"views = {config.views} and blind_views = {config.blind_views} are too many; accepted: together up to "
            f"{_TURNS}, each of another flip or turn"
        )
    if config.darken > 1 or not 1 <= config.magnify <= 8 or config.noise_jitter > 1:
        raise UsageError(
            f"darken = {config.darken}, magnify = {config.magnify} and noise_jitter = {config.noise_jitter}; "
            "accepted: darken up to 1, magnify from 1 to 8, noise_jitter from 0 to 1"
        )


def _check_patch(config: TrainConfig, spec: NetworkSpec) -> None:
    """Make sure that a patch can be taken apart, by whatever stride `auto` may come to."""
    if config.patch % spec.multiple_of:
        raise UsageError(
            f"patch = {config.patch} must be divisible by {spec.multiple_of} for network = {config.network!r}",
            hint=f"The nearest patch is {-(-config.patch // spec.multiple_of) * spec.multiple_of}.",
        )
    if config.objective in ("supervised", "qat"):
        return
    stride = 1 if config.blind_stride == "auto" else config.blind_stride
    sub_stride = config.sub_stride if config.objective == "cbsn" else 1  # the others have no second sampler
    step = math.lcm(stride, sub_stride, spec.multiple_of)
    if config.patch % step:
        below, above = config.patch // step * step, (config.patch // step + 1) * step
        second = f" and by sub_stride = {config.sub_stride}" if config.objective == "cbsn" else ""
        raise UsageError(
            f"patch = {config.patch} must be divisible by blind_stride = {config.blind_stride}{second}",
            hint=f"The nearest patches are {below} and {above}." if below else f"The smallest patch is {above}.",
        )
