"""Check that an exported graph computes what the trained network computes.

Two float32 programs that add in another order differ by rounding, and a long-trained network rounds more than a fresh
one. So the check counts what a user could see, the difference of the answers in 8-bit levels. Where that is not
negligible, both are compared with the network in float64: rounding puts both at similar distances from it, and only a
wrong graph is much farther away than PyTorch is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.bundles.manifest import Parity
from edgedenoise.errors import ExportError
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.runtimes.pipeline import image_statistics, network_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Normalization

    Answer = Callable[[NDArray[np.float32]], NDArray[np.floating]]
    """Runs a network: (1, C, H, W) to (1, 3, H, W)."""

PARITY_SIZES = ((64, 64), (61, 47), (33, 97), (101, 35), (127, 129))
"""Odd and uneven, so that a size that tracing made constant shows; rounded up to `multiple_of`."""
NEGLIGIBLE_LSB = 0.02
"""Differences up to this many 8-bit levels need no second look: nobody sees them, and 1e-5 of full scale is 0.003."""
ROUNDING_FACTOR = 8.0
"""Rounding may put the graph this many times as far from float64 as PyTorch is."""

_LSB = 255


@dataclass(frozen=True)
class _Worst:
    """The place where two answers differ most."""

    size: tuple[int, int]
    place: tuple[int, int, int]
    """Channel, row and column."""
    expected: float
    found: float
    lsb: float
    """The difference in 8-bit levels of the answer."""
    relative: float
    """The difference over the largest absolute answer of the network."""


def check_parity(
    network: Answer,
    exact: Answer,
    graph: Answer,
    normalization: Normalization,
    multiple_of: int = 1,
    channels: int = CHANNELS,
) -> Parity:
    """Compare an exported graph with the network that it was traced from, on random images of several sizes.

    Args:
        network: the network in float32, as PyTorch runs it.
        exact: the network in float64; run only where float32 leaves a doubt.
        graph: the exported graph.
        normalization: the normalization of the network's input.
        multiple_of: what the sides of an input must be divisible by.
        channels: number of input channels.

    Returns:
        The sizes and the largest differences.

    Raises:
        ExportError: an answer has another shape, is not finite where the network's is, or differs by more than
            rounding; the message names the worst place.
    """
    rng = np.random.default_rng(0)
    found: list[_Worst] = []
    for height, width in PARITY_SIZES:
        size = (-(-height // multiple_of) * multiple_of, -(-width // multiple_of) * multiple_of)
        image = rng.random((channels, *size), np.float32)
        stats = image_statistics(image, normalization)
        x = network_input(image, stats)[None]
        levels = np.asarray(stats.std, np.float64)[:, None, None] * _LSB
        expected, answer = network(x), graph(x)
        if answer.shape != expected.shape:
            raise ExportError(f"the exported graph answers {answer.shape} to {x.shape}; expected {expected.shape}")
        worst = _worst(answer, expected, levels)
        found.append(worst)
        if worst.lsb <= NEGLIGIBLE_LSB:
            continue
        reference = exact(x)
        of_graph, of_network = _worst(answer, reference, levels), _worst(expected, reference, levels)
        limit = max(NEGLIGIBLE_LSB, ROUNDING_FACTOR * of_network.lsb)
        if not of_graph.lsb <= limit:
            channel, row, column = of_graph.place
            raise ExportError(
                f"the exported graph differs from the network by {of_graph.lsb:.3g} 8-bit levels at {size[0]}x{size[1]}"
                f" pixels, channel {channel}, row {row}, column {column}: expected {of_graph.expected:.6g} (float64),"
                f" got {of_graph.found:.6g}; expected at most {limit:.3g} levels, PyTorch itself differs by"
                f" {of_network.lsb:.3g}",
                hint="Please report this with the versions of torch and onnxruntime: edgedenoise doctor --json",
            )
    return Parity([one.size for one in found], max(o.relative for o in found), max(o.lsb for o in found))


def _worst(answer: NDArray[np.floating], expected: NDArray[np.floating], levels: NDArray[np.float64]) -> _Worst:
    """Return where two answers, (1, 3, H, W), differ most; `levels` are 8-bit levels per unit and channel."""
    difference = np.abs(answer[0].astype(np.float64) - expected[0]) * levels
    difference = np.where(np.isnan(difference), np.inf, difference)  # NaN on one side alone is the worst difference
    channel, row, column = (int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    place = (0, channel, row, column)
    largest = float(np.abs(expected).max())
    return _Worst(
        (int(expected.shape[2]), int(expected.shape[3])),
        (channel, row, column),
        float(expected[place]),
        float(answer[place]),
        float(difference[channel, row, column]),
        float(np.abs(answer.astype(np.float64) - expected).max()) / largest if largest else 0.0,
    )
