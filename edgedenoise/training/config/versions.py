"""Configs that earlier versions wrote: how they become configs of today. No torch here.

Version 1 had the settings of all objectives in one table, so that a file holds values that its objective never read.
Version 2 has one class per objective. What an objective did not read is dropped; a resumed run computes the same.
Version 3 limits the values of normalized pixels; the runs before did not.
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


def upgraded(values: dict[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """Return the values of a config of any version as values of the current version.

    Args:
        values: of the config. Without a version they are of the current one.
        accepted: names of the settings of its objective; any other setting of version 1 is dropped.
    """
    if values.get("version") == 1:
        kept = {key: value for key, value in values.items() if key in accepted or key not in _VERSION_1}
        kept.setdefault("precision", "fp32")  # the default of version 1
        values = {**kept, "version": 2}
    if values.get("version") == 2:
        values = {key: value for key, value in values.items() if key != "version"}
        if "normalization_limit" in accepted:
            values.setdefault("normalization_limit", 0.0)
    return values
