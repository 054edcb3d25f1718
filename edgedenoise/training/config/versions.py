"""Configs that earlier versions wrote: how they become configs of today. No torch here.

Version 1 had the settings of all objectives in one table, so that a file holds values that its objective never read.
Version 2 has one class per objective. What an objective did not read is dropped; a resumed run computes the same.
"""

from __future__ import annotations

from typing import Any, Final

_VERSION_1: Final = frozenset({
    "version", "network", "objective", "data", "clean", "teacher", "out", "init", "steps", "hours", "patch", "batch",
    "learning_rate", "schedule", "clip_norm", "ema_decay", "precision", "compile", "ramp_fraction", "lambda_inv",
    "blind_stride", "blind_sampler", "sub_stride", "statistics", "first_weights", "loss", "laplacian", "darken",
    "magnify", "noise_low", "noise_high", "noise_power", "jpeg_share", "views", "blind_views", "recharge",
    "noise_jitter", "scheme", "observe_fraction", "held_out", "val_clean", "val_noisy", "val_mode", "data_check",
    "seed", "device", "checkpoint_every", "preview_every", "val_every", "log_every", "cache_mb", "workers",
})  # fmt: skip
"""Names of all settings of version 1."""


def is_version_1(values: dict[str, Any]) -> bool:
    """Return whether a config says that it is of version 1."""
    return values.get("version") == 1


def from_version_1(values: dict[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """Return the values of a version 1 config as values of version 2.

    Args:
        values: of the old config.
        accepted: names of the settings of its objective; any other setting of version 1 is dropped.
    """
    kept = {key: value for key, value in values.items() if key in accepted or key not in _VERSION_1}
    kept.pop("version", None)
    kept.setdefault("precision", "fp32")  # the default of version 1
    return kept
