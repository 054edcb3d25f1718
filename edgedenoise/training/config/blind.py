"""Settings of the objectives of blind-spot networks, which learn from noisy images alone. No torch here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import DEFAULT_LIMIT
from edgedenoise.training.config.base import (
    DataCheck,
    Normalized,
    Positive,
    Share,
    TrainConfig,
    Weight,
    objective_config,
)

if TYPE_CHECKING:
    from edgedenoise.training.networks.families import NetworkSpec

OFFICIAL_STRIDE = 5
"""`blind_stride` of the C-BSN authors; `auto` becomes this when the data check is off."""

_LOCAL_MEAN_CHANNELS = 6  # the same number as in cbsn.py, which imports torch; a test compares them

Stride = Positive | Literal["auto"]


class BlindConfig(TrainConfig, frozen=True, kw_only=True):
    """What the objectives of blind-spot networks share: they learn from noisy images alone."""

    needed_folders: ClassVar[tuple[str, ...]] = ("data", "out")
    trains_blind: ClassVar[bool] = True

    data: str = ""
    """Folder of noisy images, at least `patch` pixels on each side."""
    data_check: DataCheck = "refuse"
    """What happens when the images cannot be trained on: refuse, warn and go on, or do not look."""
    blind_stride: Stride = "auto"
    """Distance in pixels at which the noise is taken to be independent; `auto` measures it. Officially 5."""
    statistics: Normalized = "photo"
    """What a patch is normalised by: itself (official), or the image that it is from, as on a device."""
    normalization_limit: Weight = DEFAULT_LIMIT
    """Largest absolute value that normalized pixels may have: images that exceed it are divided by more than their
    deviation, which INT8 needs. 0 sets no limit (official)."""
    first_weights: Literal["he", "local-mean"] = "local-mean"
    """First weights: He fan-in (official), or such that the network begins as a local mean, which suits short
    trainings."""
    val_mode: Literal["direct", "stride2", "stride2-enhanced"] = "direct"
    """How `val_noisy` is denoised; see `inference.MODES`. Devices run `direct`."""

    @property
    def stride(self) -> int:
        """`blind_stride` as a number; raises UsageError while it is `auto`."""
        return settled_stride(self.blind_stride)

    def _check(self, spec: NetworkSpec) -> None:
        super()._check(spec)
        if self.first_weights == "local-mean" and spec.arguments["width"] < _LOCAL_MEAN_CHANNELS:
            raise UsageError(
                f"first_weights = 'local-mean' needs {_LOCAL_MEAN_CHANNELS} channels, and network = "
                f"{self.network!r} has {spec.arguments['width']}",
                hint="Take a wider network, or first_weights = 'he'.",
            )
        check_strides(self.patch, spec, self._strides())

    def _strides(self) -> dict[str, int | str]:
        """Return everything that must divide a patch, by name."""
        return {"blind_stride": self.blind_stride}


@objective_config
class CBSNConfig(BlindConfig, frozen=True, kw_only=True, tag="cbsn"):
    """C-BSN (Jang et al., ICCV 2023), from noisy images alone: L_blind + s (L_self + lambda L_inv).

    Example:
        >>> CBSNConfig(data="photos", out="run", blind_stride=4).patch
        120
    """

    ramp_fraction: Share = 0.4
    """Part of the steps over which s grows to 1. Officially 0.4."""
    lambda_inv: Weight = 2.0
    """Weight of L_inv against L_self. Officially 2."""
    blind_sampler: Literal["lattice", "permuted"] = "lattice"
    """How L_blind takes an image apart: every `blind_stride`-th pixel (official), or SDAP's random permutation."""
    sub_stride: Positive = 2
    """Cell of the random sub-sampler. Officially 2."""

    def _strides(self) -> dict[str, int | str]:
        return {**super()._strides(), "sub_stride": self.sub_stride}


@objective_config
class SDAPConfig(BlindConfig, frozen=True, kw_only=True, tag="sdap"):
    """SDAP (Pan et al., ICCV 2023), from noisy images alone; it trains only the blind path."""

    trains_direct: ClassVar[bool] = False


def settled_stride(blind_stride: int | str) -> int:
    """Return a `blind_stride` that is a number.

    Raises:
        UsageError: it is still `auto`; `train` measures and settles it.
    """
    if not isinstance(blind_stride, int):
        raise UsageError("blind_stride = 'auto' has not been settled", hint="Give a number, officially 5.")
    return blind_stride


def check_strides(patch: int, spec: NetworkSpec, strides: dict[str, int | str]) -> None:
    """Check that a patch can be split by all strides that are settled."""
    step = math.lcm(spec.multiple_of, *(stride for stride in strides.values() if isinstance(stride, int)))
    if patch % step:
        below, above = patch // step * step, (patch // step + 1) * step
        raise UsageError(
            f"patch = {patch} must be divisible by {' and by '.join(f'{k} = {v}' for k, v in strides.items())}",
            hint=f"The nearest patches are {below} and {above}." if below else f"The smallest patch is {above}.",
        )
