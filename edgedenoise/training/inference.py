"""Denoise whole images with a PyTorch network, tile by tile, as a device does and as papers test.

Three modes (`MODES`). `direct` is one non-blind pass: what is exported and what devices run. `stride2` is how
AP-BSN and SDAP test (Pan et al., ICCV 2023): the image is split into four sub-images of every second pixel,
each goes through the blind network, and they are joined. `stride2-enhanced` runs the blind network again on that
result, SDAP's '(E)'.
"""

from __future__ import annotations

import importlib.metadata
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import torch

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import statistics
from edgedenoise.imaging.tiling import Tiling, plan_tiles, run_tiled
from edgedenoise.runtimes.base import CHANNELS, EffectiveDevice, Session
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.noise_plane import noise_of, with_plane
from edgedenoise.runtimes.pipeline import network_input
from edgedenoise.training.networks.guard import Guarded, guarded_halo_px

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.imaging.normalize import Statistics
    from edgedenoise.training.networks.families import NetworkSpec

Mode = Literal["direct", "stride2", "stride2-enhanced"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""Ways to denoise an image in evaluation."""

TILE_PX = 512
"""Largest side of a tile; bounds memory to a few hundred MB for the networks that a CPU trains."""


class TorchSession(Session):
    """A network as a session, so that it runs under the tiling that devices use."""

    def __init__(self, network: nn.Module, *, blind: bool) -> None:
        self._network = network
        self._mode = {"blind": True} if blind else {}  # students have no other mode
        self._device = next(network.parameters()).device
        self.effective = EffectiveDevice("torch", importlib.metadata.version("torch"), str(self._device))

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (1, 3, h, w) for an input (1, 3 + level planes, h, w)."""
        with torch.no_grad():
            answer = self._network(torch.from_numpy(x).to(self._device), **self._mode)
        return np.asarray(answer.float().cpu().numpy(), np.float32)


def denoise_unit(
    network: nn.Module,
    spec: NetworkSpec,
    unit: NDArray[np.float32],
    *,
    mode: Mode = "direct",
    numbers: Statistics | None = None,
    level: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Denoise one image. A network with a level plane is followed by the guard, as in the exported graph.

    Args:
        network: the network, in any mode, on any device; its mode is restored.
        spec: spec of the network.
        unit: image (H, W, 3) in [0, 1]; at least 2 pixels a side where `mode` splits it.
        mode: one of `MODES`.
        numbers: statistics of the whole image when `unit` is a part of it; None when it is the whole image.
        level: level plane (H, W) in [0, 1], for a network that has one; None estimates the noise of `unit`.

    Returns:
        (H, W, 3), not clipped; `unit` itself where a network with a level plane is given an image without noise.

    Raises:
        UsageError: the network has no blind path for `mode`.
        NotFiniteError: the output holds NaN or infinity.
    """
    if mode != "direct" and not spec.has_blind_path:
        raise UsageError(f"mode {mode!r} needs a blind path, which {spec.name} does not have; expected direct")
    planes = np.ascontiguousarray(unit.transpose(2, 0, 1))
    numbers = numbers or statistics(planes, spec.normalization)
    if spec.level_planes:
        if level is None:
            noise = noise_of(unit)
            if noise.is_negligible:
                return unit
            level = noise.plane()
        planes = with_plane(planes, level)
    seen = network_input(planes, numbers)
    if spec.level_planes:
        deployed: nn.Module = Guarded(network)  # type: ignore[arg-type]
        tiling = Tiling(guarded_halo_px(spec.halo_px), spec.multiple_of)
    else:
        deployed, tiling = network, Tiling(spec.halo_px, spec.multiple_of)
    torch_session = TorchSession(deployed, blind=mode != "direct")
    with evaluating(network), CheckedSession(torch_session, channels=CHANNELS + spec.level_planes) as session:
        if mode == "direct":
            answer = _run(session, seen, tiling)
        else:
            answer = np.empty_like(seen)
            for row in (0, 1):
                for column in (0, 1):
                    place = (slice(None), slice(row, None, 2), slice(column, None, 2))
                    answer[place] = _run(session, np.ascontiguousarray(seen[place]), tiling)
            if mode == "stride2-enhanced":
                answer = _run(session, answer, tiling)
    return np.ascontiguousarray(numbers.undo(answer).transpose(1, 2, 0))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode inside a `with` block, and restore its mode."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _run(session: CheckedSession, seen: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    return run_tiled(seen, plan_tiles(seen.shape[1], seen.shape[2], tiling, TILE_PX), session.stream)
