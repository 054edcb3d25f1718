"""Where a run trains. Only `auto` chooses; a device that was named is used or refused."""

from __future__ import annotations

import torch

from edgedenoise.errors import DeviceNotFoundError


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto` (CUDA, else MPS, else the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        DeviceNotFoundError: the device that was named is not on this machine.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())] + available
    wanted = available[0] if name == "auto" else "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise DeviceNotFoundError(
            f"there is no device {name!r} for training here; available: {', '.join(available)}",
            hint="Use --device auto, or install a torch build for your GPU.",
        )
    return torch.device(wanted)
