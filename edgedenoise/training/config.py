"""What a training run is: network x objective x data in one typed, versioned config. No torch here.

A config comes from Python, from a TOML file and from `key=value` overrides, and is checked each time.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgedenoise.errors import UsageError
from edgedenoise.training.networks import network_spec

if TYPE_CHECKING:
    from collections.abc import Iterable


RUN_CONFIG = "config.toml"
"""Name of the config in a run folder; written before the first step."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    Raises:
        UsageError: a value is out of range, or two values do not go together.
    """

    version: Literal[1] = 1
    """Of this schema."""
    network: str = "cbsn-24x4"
    """See `networks.FAMILIES`. The official C-BSN is `cbsn-128x9`."""
    objective: Literal["cbsn"] = "cbsn"
    """What one step minimises; see `objectives.OBJECTIVES`."""
    data: str = ""
    """Folder of noisy photographs, at least `patch` pixels on each side."""
    out: str = ""
    """Run folder that is made."""
    steps: int = 2000
    """Updates of the weights; the schedules below scale with it. Officially 500,000."""
    patch: int = 120
    """Side of the crops in pixels, divisible by `blind_stride` and `sub_stride`. Officially 120 or 240."""
    batch: int = 2
    """Crops per step. Officially 4."""
    learning_rate: float = 1e-3
    """Of Adam, at the beginning. Officially 1e-4, for a network of 128 channels."""
    schedule: Literal["halving", "cosine"] = "halving"
    """How the learning rate falls: halved every fifth of the steps (official), or along a cosine to zero."""
    ramp_fraction: float = 0.6
    """Part of the steps over which s of L_blind + s (L_self + lambda L_inv) grows to 1. Officially 0.4."""
    lambda_inv: float = 2.0
    """Weight of L_inv against L_self. Officially 2."""
    blind_stride: int = 5
    """Distance in pixels at which the noise is taken to be independent. Officially 5."""
    sub_stride: int = 2
    """Cell of the random sub-sampler. Officially 2."""
    statistics: Literal["patch", "photo"] = "patch"
    """What a crop is normalised by: itself (official), or the photograph that it is from, as on a device."""
    first_weights: Literal["he", "local-mean"] = "he"
    """He fan-in (official), or such that the network begins as a local mean, which suits short trainings."""
    seed: int = 0
    """Of the first weights and of every crop, turn and sub-sampling."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Only `auto` chooses."""
    checkpoint_every: int = 200
    """Steps between checkpoints, which is what a kill can cost. The last step is always kept."""
    preview_every: int = 500
    """Steps between preview pictures. The last step always has one."""
    log_every: int = 10
    """Steps between rows of `log.csv`. The last step always has one."""
    cache_mb: int = 2048
    """Decoded photographs held in memory, in MiB; those beyond are decoded again whenever they are drawn."""

    def __post_init__(self) -> None:
        spec = network_spec(self.network)
        for key, low in _MINIMUM.items():
            if getattr(self, key) < low:
                raise UsageError(f"{key} = {getattr(self, key)} is too small; accepted: {low} and more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"learning_rate = {self.learning_rate} is not accepted: it must be above 0, e.g. 1e-3")
        if not (math.isfinite(self.lambda_inv) and self.lambda_inv >= 0):
            raise UsageError(f"lambda_inv = {self.lambda_inv} is not accepted: it must be 0 or more, officially 2")
        if not 0 <= self.ramp_fraction <= 1:
            raise UsageError(f"ramp_fraction = {self.ramp_fraction} is not accepted: it is a part of the steps, 0 to 1")
        if self.seed >= 2**63:
            raise UsageError(f"seed = {self.seed} is too large; accepted: 0 to 2^63 - 1")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise UsageError(f"device = {self.device!r} is not accepted; accepted: auto, cpu, cuda, cuda:N, mps")
        if self.first_weights == "local-mean" and spec.width < _LOCAL_MEAN_CHANNELS:
            raise UsageError(
                f"first_weights = 'local-mean' needs {_LOCAL_MEAN_CHANNELS} channels, and network = "
                f"{self.network!r} has {spec.width}",
                hint="Take a wider network, or first_weights = 'he'.",
            )
        both = math.lcm(self.blind_stride, self.sub_stride)
        if self.patch % both:
            below, above = self.patch // both * both, (self.patch // both + 1) * both
            raise UsageError(
                f"patch = {self.patch} must be divisible by blind_stride = {self.blind_stride} "
                f"and by sub_stride = {self.sub_stride}",
                hint=f"The nearest patches are {below} and {above}." if below else f"The smallest patch is {above}.",
            )

    @classmethod
    def from_toml(cls, path: Path | str) -> TrainConfig:
        """Read a config file: `key = value` lines named as the fields here; what is left out has its default.

        Raises:
            UsageError: there is no such file, it is not TOML, or a key or value is not accepted.
        """
        path = Path(path)
        try:
            values = _loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"the config {path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
            raise UsageError(
                f"the config {path} is not TOML: {error}",
                hint='Write lines such as: network = "cbsn-24x4"',
            ) from None
        return cls(**_checked(values, where=f"the config {path}", strict=True))

    def with_overrides(self, overrides: Iterable[str]) -> TrainConfig:
        """Return this config with `key=value` texts applied in order, for example `["steps=600", "batch=4"]`.

        Raises:
            UsageError: an override is not `key=value`, or its key or value is not accepted.
        """
        values: dict[str, object] = {}
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"the override {text!r} is not accepted; accepted: key=value, e.g. steps=600")
            values[key.strip()] = value.strip()
        return msgspec.structs.replace(self, **_checked(values, where="an override", strict=False))

    def to_toml(self) -> str:
        """Return the text that `from_toml` reads back to an equal config."""
        lines = ["# Written by edgedenoise; read it back with --config."]
        lines += [f"{key} = {_toml(value)}" for key, value in msgspec.structs.asdict(self).items()]
        return "\n".join(lines) + "\n"


_LOCAL_MEAN_CHANNELS = 6  # what cbsn.py, which imports torch, says too; a test compares them

_MINIMUM = {
    "steps": 1,
    "patch": 8,
    "batch": 1,
    "blind_stride": 1,
    "sub_stride": 1,
    "seed": 0,
    "checkpoint_every": 1,
    "preview_every": 1,
    "log_every": 1,
    "cache_mb": 0,
}


def _loads(text: str) -> dict[str, Any]:
    """Parse TOML with the standard library, or with tomli on Python 3.10."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _checked(values: dict[str, Any], *, where: str, strict: bool) -> dict[str, Any]:
    """Return `values` as the types of their fields; without `strict`, texts become numbers where needed.

    What goes together and what is in range is checked when the whole config is made.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(TrainConfig)}
    for key in values:
        if key not in types:
            close = difflib.get_close_matches(key, types, n=1)
            raise UsageError(
                f"{where} has the unknown key {key!r}; accepted: {', '.join(types)}",
                hint=f"Did you mean {close[0]}?" if close else None,
            )
    return {key: _as(types[key], key, value, where=where, strict=strict) for key, value in values.items()}


def _as(type_: Any, key: str, value: object, *, where: str, strict: bool) -> Any:
    """Return one value as the type of its field."""
    try:
        return msgspec.convert(value, type_, strict=strict)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "")
        raise UsageError(f"{where} has {key} = {value!r}, which is not accepted: {said}") from None


def _toml(value: object) -> str:
    """Return one TOML value. A JSON string is a TOML string, and TOML wants lower-case booleans like JSON."""
    return json.dumps(value, ensure_ascii=True)
