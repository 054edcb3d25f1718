"""The settings of a training run: one class per objective, each with the fields that its objective reads.

`TrainConfig` holds what all runs have; `CBSNConfig`, `SDAPConfig`, `DistillConfig`, `SupervisedConfig`, `QATConfig`
and `SelfQATConfig` add their own. Every config is checked when it is made. No torch here.
"""

from __future__ import annotations

from edgedenoise.training.config.base import OBJECTIVE_CONFIGS, RUN_CONFIG, TrainConfig, config_of
from edgedenoise.training.config.blind import OFFICIAL_STRIDE, BlindConfig, CBSNConfig, SDAPConfig, settled_stride
from edgedenoise.training.config.students import (
    DistillConfig,
    QATConfig,
    SelfQATConfig,
    StudentConfig,
    SupervisedConfig,
)

__all__ = [
    "OBJECTIVE_CONFIGS",
    "OFFICIAL_STRIDE",
    "RUN_CONFIG",
    "BlindConfig",
    "CBSNConfig",
    "DistillConfig",
    "QATConfig",
    "SDAPConfig",
    "SelfQATConfig",
    "StudentConfig",
    "SupervisedConfig",
    "TrainConfig",
    "config_of",
    "settled_stride",
]
