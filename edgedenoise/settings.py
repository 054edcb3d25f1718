"""Options of `load` that concern every image of a `Denoiser`, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from edgedenoise.bundles.manifest import MAX_SIDE_PX
from edgedenoise.errors import UsageError
from edgedenoise.runtimes import noise_plane

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision

_MAX_NOISE = 255


class LoadOptions(TypedDict, total=False):
    """Options of `load`, for functions that pass them on."""

    runtime: str
    precision: Precision | Literal["auto"]
    device: str
    tile: int | Literal["auto"]
    strength: float
    noise: float | None
    threads: int | None
    max_memory: int | None
    trust_engine: bool


@dataclass(frozen=True)
class Settings:
    """How a `Denoiser` treats images.

    Raises:
        UsageError: a value is not accepted.
    """

    tile: int | Literal["auto"] = "auto"
    """Largest tile side in pixels; 0 for the whole image."""
    strength: float = 1.0
    """How much noise to remove."""
    noise: float | None = None
    """Noise level that the user stated, in 8-bit levels; None to estimate it."""
    max_memory: int | None = None
    """Bytes of memory that the process may take; None for what the machine has free."""

    def __post_init__(self) -> None:
        _check_tile(self.tile)
        noise_plane.check_strength(self.strength)
        if self.max_memory is not None and not (_is_whole_number(self.max_memory) and self.max_memory > 0):
            raise UsageError(
                f"max_memory is {self.max_memory!r}; expected a number of bytes above 0, or None for no limit"
            )

    def check_for(self, bundle: Bundle) -> None:
        """Check the settings that depend on whether the network of a bundle takes the noise level.

        Raises:
            UsageError: the bundle does not take one of them.
            IncompatibleError: this version does not compute the noise level that the bundle asks for.
        """
        level, noise = bundle.manifest.noise_level, self.noise
        if level is not None:
            noise_plane.check_noise_level(level, bundle.source)
        else:
            noise_plane.check_strength(self.strength, most=1.0)
        if noise is None:
            return
        if level is None:
            raise UsageError(
                f"{bundle.source} has a network that does not take the noise level; expected no noise, got {noise!r}",
                hint="Leave it out; the strength (0 to 1) blends the input and the output.",
            )
        if not noise_plane.is_number(noise) or not 0 <= noise <= _MAX_NOISE:
            raise UsageError(f"noise is {noise!r}; expected 0 to {_MAX_NOISE}, in 8-bit levels")


def _is_whole_number(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_tile(tile: int | str) -> None:
    if tile != "auto" and not (_is_whole_number(tile) and 0 <= int(tile) <= MAX_SIDE_PX):
        raise UsageError(
            f"tile is {tile!r}; expected 'auto', 0 (the whole image) or a number of pixels up to {MAX_SIDE_PX}"
        )
