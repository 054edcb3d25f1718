"""Preview pictures: photographs of the training set, as they are (left) and denoised (right)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgedenoise.normalize import statistics
from edgedenoise.photo import Photo, from_unit, to_unit, write_photo

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.data import NoisyFolder
    from edgedenoise.training.networks import NetworkSpec

_SIDE = 256  # pixels shown of each photograph
_SHOWN = 2  # photographs


def write_preview(path: Path, network: nn.Module, spec: NetworkSpec, photos: NoisyFolder) -> None:
    """Write a PNG with a row for each of the first photographs: the middle of it before, and after."""
    rows = []
    for index in range(min(_SHOWN, len(photos))):
        before, after = denoise_middle(network, spec, to_unit(photos.pixels(index)), _SIDE)
        rows.append(np.concatenate([before, after], axis=1))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    write_photo(Photo(from_unit(np.concatenate(rows), np.uint8)), path)


def denoise_middle(
    network: nn.Module, spec: NetworkSpec, unit: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Denoise the middle of a photograph as a device would: non-blind, with whole-photograph statistics.

    Args:
        network: in any mode, on any device; its mode is left as it was.
        spec: of the network.
        unit: (H, W, 3) in [0, 1].
        side: what is wanted, in pixels; less where the photograph is smaller.

    Returns:
        The middle before and after, both (side, side, 3); after is not clipped.
    """
    whole = np.ascontiguousarray(unit.transpose(2, 0, 1))
    numbers = statistics(whole, spec.normalization)
    wanted = tuple(_middle(extent, side, 0, spec.multiple_of) for extent in unit.shape[:2])
    context = tuple(_middle(extent, side, spec.halo_px, spec.multiple_of) for extent in unit.shape[:2])
    tile = numbers.apply(whole[:, context[0], context[1]])
    parameter = next(network.parameters())
    training = network.training
    network.eval()
    with torch.no_grad():
        values = network(torch.from_numpy(tile)[None].to(parameter.device))[0].cpu().numpy()
    network.train(training)
    top, left = wanted[0].start - context[0].start, wanted[1].start - context[1].start
    height, width = wanted[0].stop - wanted[0].start, wanted[1].stop - wanted[1].start
    after = numbers.undo(values)[:, top : top + height, left : left + width].transpose(1, 2, 0)
    return unit[wanted[0], wanted[1]], after


def _middle(extent: int, side: int, margin: int, multiple: int) -> slice:
    """Return the middle `side` of `extent` with a margin, its ends at multiples of `multiple`."""
    start = max((extent - side) // 2 - margin, 0) // multiple * multiple
    length = min((extent + side) // 2 + margin, extent) - start
    return slice(start, start + length // multiple * multiple)
