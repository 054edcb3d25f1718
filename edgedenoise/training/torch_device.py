"""Choose the device of a training and the memory layout there. A named device is used or refused."""

from __future__ import annotations

import torch

from edgedenoise.errors import DeviceNotFoundError


def resolve_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Return the device for `auto` (CUDA, else MPS, else the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.

    Args:
        name: device of the config.
        local_rank: rank of this process on its machine; processes that train together take a GPU each.

    Raises:
        DeviceNotFoundError: the named device is not on this machine.
    """
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    available = gpus + available
    device = name
    if name == "cuda" or (name == "auto" and gpus):
        device = f"cuda:{local_rank}"
    elif name == "auto":
        device = available[0]
    if device not in available:
        raise DeviceNotFoundError(
            f"this machine has no device {name!r} for training; available: {', '.join(available)}",
            hint="Use --device auto, or install a torch build for your GPU.",
        )
    return torch.device(device)


def memory_layout(device: torch.device, precision: str) -> torch.memory_format:
    """Return the memory layout in which a device trains convolutions in a precision.

    Channels last is the fast one on CPUs and GPUs; benchmarks/train_step.py measures it on a CPU. On CPUs with native
    bfloat16 it crashed the process in the backward pass of C-BSNs of 24 and 40 channels (torch 2.13); the plain layout
    did not, and is about as fast.
    """
    if device.type == "cpu" and precision == "bf16":
        return torch.contiguous_format
    return torch.channels_last
