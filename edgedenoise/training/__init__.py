"""Training with PyTorch: networks, losses, data and the training loop.

Names are loaded on first use (PEP 562): importing this package, its `config` or its `networks` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_PUBLIC = {
    "CBSN": "edgedenoise.training.networks.cbsn",
    "CBSNLosses": "edgedenoise.training.objectives.losses",
    "ConditionalMaskedConv2d": "edgedenoise.training.networks.cbsn",
    "NetworkSpec": "edgedenoise.training.networks.families",
    "ImageFolder": "edgedenoise.training.data.patches",
    "CBSNConfig": "edgedenoise.training.config.config",
    "DistillConfig": "edgedenoise.training.config.config",
    "QATConfig": "edgedenoise.training.config.config",
    "SDAPConfig": "edgedenoise.training.config.config",
    "SelfQATConfig": "edgedenoise.training.config.config",
    "SupervisedConfig": "edgedenoise.training.config.config",
    "TrainConfig": "edgedenoise.training.config.config",
    "TrainResult": "edgedenoise.training.loop.trainer",
    "batch_to_space": "edgedenoise.training.objectives.sampling",
    "build_network": "edgedenoise.training.networks.families",
    "cbsn_losses": "edgedenoise.training.objectives.losses",
    "import_tf": "edgedenoise.training.tf_import",
    "load_network": "edgedenoise.training.checkpoint",
    "load_tf_checkpoint": "edgedenoise.training.tf_import",
    "network_spec": "edgedenoise.training.networks.families",
    "random_subsample": "edgedenoise.training.objectives.sampling",
    "space_to_batch": "edgedenoise.training.objectives.sampling",
    "train": "edgedenoise.training.loop.trainer",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from edgedenoise.training.checkpoint import load_network as load_network
    from edgedenoise.training.config.config import CBSNConfig as CBSNConfig
    from edgedenoise.training.config.config import DistillConfig as DistillConfig
    from edgedenoise.training.config.config import QATConfig as QATConfig
    from edgedenoise.training.config.config import SDAPConfig as SDAPConfig
    from edgedenoise.training.config.config import SelfQATConfig as SelfQATConfig
    from edgedenoise.training.config.config import SupervisedConfig as SupervisedConfig
    from edgedenoise.training.config.config import TrainConfig as TrainConfig
    from edgedenoise.training.data.patches import ImageFolder as ImageFolder
    from edgedenoise.training.loop.trainer import TrainResult as TrainResult
    from edgedenoise.training.loop.trainer import train as train
    from edgedenoise.training.networks.cbsn import CBSN as CBSN
    from edgedenoise.training.networks.cbsn import ConditionalMaskedConv2d as ConditionalMaskedConv2d
    from edgedenoise.training.networks.families import NetworkSpec as NetworkSpec
    from edgedenoise.training.networks.families import build_network as build_network
    from edgedenoise.training.networks.families import network_spec as network_spec
    from edgedenoise.training.objectives.losses import CBSNLosses as CBSNLosses
    from edgedenoise.training.objectives.losses import cbsn_losses as cbsn_losses
    from edgedenoise.training.objectives.sampling import batch_to_space as batch_to_space
    from edgedenoise.training.objectives.sampling import random_subsample as random_subsample
    from edgedenoise.training.objectives.sampling import space_to_batch as space_to_batch
    from edgedenoise.training.tf_import import import_tf as import_tf
    from edgedenoise.training.tf_import import load_tf_checkpoint as load_tf_checkpoint


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value  # the next look-up costs nothing
    return value


def __dir__() -> list[str]:
    return list(__all__)
