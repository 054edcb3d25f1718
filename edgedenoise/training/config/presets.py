"""Configs by name, for `--config NAME`. A missing value has the default of its objective's config.

The official ones are exactly what the authors trained with; the others are ours, one per network, with schedules that
scale with `--steps` or `--hours`.
"""

from __future__ import annotations

from typing import Any, Final

_OFFICIAL: Final[dict[str, Any]] = {
    "network": "cbsn-128x9",
    "schedule": "halving",
    "learning_rate": 1e-4,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
    "blind_stride": 5,
    "statistics": "patch",
    "normalization_limit": 0.0,
    "first_weights": "he",
    "precision": "fp32",
    "held_out": 0,
    "checkpoint_every": 1000,
    "preview_every": 10_000,
    "val_every": 10_000,
    "log_every": 100,
}


def _ours(network: str, steps: int, learning_rate: float, batch: int = 2) -> dict[str, Any]:
    return {"network": network, "steps": steps, "learning_rate": learning_rate, "batch": batch}


# What the shipped students were trained with, on clean images: see docs/guides/students.md for how it was found.
_SHIPPED: Final[dict[str, Any]] = {
    "objective": "supervised",
    "loss": "psnr",
    "laplacian": 0.0,
    "noise_power": 0.4,
    "darken": 0.3,
    "batch": 12,
    "patch": 80,
    "clip_norm": 10.0,
    "checkpoint_every": 500,
    "preview_every": 5000,
    "val_every": 1000,
    "log_every": 50,
}
# More of both ends, weak noise and noise beyond a camera's highest ISO: `edge` gains by it, `edge-tiny` loses.
_BOTH_ENDS: Final[dict[str, Any]] = {"noise_high": 1.1, "noise_power": 0.5}
# And then, with `--init RUN`, in 8 bits.
_SHIPPED_INT8: Final[dict[str, Any]] = {**_SHIPPED, "objective": "qat", "learning_rate": 5e-4, "steps": 10_000}
# Noise of the whole range: strong and coarse, clipped at black, and almost none, added to tiles.
_FULL_RANGE_NOISE: Final[dict[str, Any]] = {
    **_SHIPPED,
    "noise_high": 1.25,
    "noise_power": 0.6,
    "jpeg_quality_low": 75,
    "jpeg_chroma_whole_share": 0.3,
    "coarse_share": 0.33,
    "black_share": 0.25,
    "weak_share": 0.1,
    "tile": 256,
    "clip_norm": 1.0,
    "held_out": 6,
}
_FULL_RANGE: Final[dict[str, Any]] = {
    **_FULL_RANGE_NOISE,
    "schedule": "hold",
    "warmup": 300,
    "psnr_floor_steps": 1000,
    "steps": 60_000,
}
# In 8 bits, with the level plane that devices have: estimated, with the estimator's errors.
_LEVEL_QAT: Final[dict[str, Any]] = {
    **_FULL_RANGE_NOISE,
    "objective": "qat",
    "learning_rate": 2e-4,
    "steps": 3000,
    "estimated_level_share": 0.6,
    "val_every": 500,
}


PRESETS: Final[dict[str, dict[str, Any]]] = {
    # Jang et al., ICCV 2023, and the authors' code: s over 200k of 500k steps, lambda 2, strides 5 and 2, Adam.
    "cbsn-official": {**_OFFICIAL, "steps": 500_000, "batch": 4, "patch": 120, "ramp_fraction": 0.4, "lambda_inv": 2.0},
    # Pan et al., ICCV 2023, and the authors' code: 50 epochs of batches of 16, at a learning rate that stays.
    "sdap-official": {
        **_OFFICIAL, "objective": "sdap", "steps": 80_000, "batch": 16, "patch": 160, "schedule": "constant",
        "val_mode": "stride2",
    },
    "cbsn-16x4": _ours("cbsn-16x4", 10_000, 2e-3),
    "cbsn-24x4": _ours("cbsn-24x4", 10_000, 1e-3),
    "cbsn-32x5": _ours("cbsn-32x5", 20_000, 1e-3),
    "cbsn-64x5": _ours("cbsn-64x5", 60_000, 5e-4, batch=4),
    "cbsn-64x9": _ours("cbsn-64x9", 100_000, 3e-4, batch=4),
    "edge-tiny-shipped": {**_SHIPPED, "network": "edge-tiny", "steps": 40_000},
    "edge-tiny-shipped-int8": {**_SHIPPED_INT8, "network": "edge-tiny"},
    "edge-shipped": {**_SHIPPED, **_BOTH_ENDS, "network": "edge", "steps": 40_000},
    "edge-shipped-int8": {**_SHIPPED_INT8, **_BOTH_ENDS, "network": "edge"},
    "edge-full-range": {**_FULL_RANGE, "network": "edge"},
    "edge-level-full-range": {**_FULL_RANGE, "network": "edge-level"},
    "edge-level-qat": {**_LEVEL_QAT, "network": "edge-level"},
}  # fmt: skip
"""Name -> values that differ from the defaults."""
