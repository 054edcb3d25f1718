"""The PyTorch core: networks, losses, data and the trainer.

Names are loaded on first use (PEP 562): importing this package, its `config` or its `networks` imports no
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_PUBLIC = {
    "CBSN": "edgedenoise.training.cbsn",
    "CBSNLosses": "edgedenoise.training.losses",
    "ConditionalMaskedConv2d": "edgedenoise.training.cbsn",
    "NetworkSpec": "edgedenoise.training.networks",
    "PhotoFolder": "edgedenoise.training.data",
    "TrainConfig": "edgedenoise.training.config",
    "TrainResult": "edgedenoise.training.trainer",
    "batch_to_space": "edgedenoise.training.sampling",
    "build_network": "edgedenoise.training.networks",
    "cbsn_losses": "edgedenoise.training.losses",
    "import_tf_checkpoint": "edgedenoise.training.tf_import",
    "load_network": "edgedenoise.training.checkpoint",
    "load_tf_checkpoint": "edgedenoise.training.tf_import",
    "network_spec": "edgedenoise.training.networks",
    "random_subsample": "edgedenoise.training.sampling",
    "space_to_batch": "edgedenoise.training.sampling",
    "train_model": "edgedenoise.training.trainer",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from edgedenoise.training.cbsn import CBSN as CBSN
    from edgedenoise.training.cbsn import ConditionalMaskedConv2d as ConditionalMaskedConv2d
    from edgedenoise.training.checkpoint import load_network as load_network
    from edgedenoise.training.config import TrainConfig as TrainConfig
    from edgedenoise.training.data import PhotoFolder as PhotoFolder
    from edgedenoise.training.losses import CBSNLosses as CBSNLosses
    from edgedenoise.training.losses import cbsn_losses as cbsn_losses
    from edgedenoise.training.networks import NetworkSpec as NetworkSpec
    from edgedenoise.training.networks import build_network as build_network
    from edgedenoise.training.networks import network_spec as network_spec
    from edgedenoise.training.sampling import batch_to_space as batch_to_space
    from edgedenoise.training.sampling import random_subsample as random_subsample
    from edgedenoise.training.sampling import space_to_batch as space_to_batch
    from edgedenoise.training.tf_import import import_tf_checkpoint as import_tf_checkpoint
    from edgedenoise.training.tf_import import load_tf_checkpoint as load_tf_checkpoint
    from edgedenoise.training.trainer import TrainResult as TrainResult
    from edgedenoise.training.trainer import train_model as train_model


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value  # the next look-up costs nothing
    return value


def __dir__() -> list[str]:
    return list(__all__)
