"""The report about a quantized graph that was added to a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.manifest import HeldOutLoss, InputShapes, Precision
    from edgedenoise.calibration.schemes import WeightClip
    from edgedenoise.exporting.quantization.correction import BiasCorrection


@dataclass(frozen=True)
class Removed:
    """A variant that was removed because it was built from a graph that has been replaced."""

    variant: str
    runtime: str
    precision: Precision
    shapes: InputShapes | None
    """Sizes that its file accepted."""


@dataclass(frozen=True)
class QuantizeReport:
    """How close the reference execution (unfused W8A8) of a new graph is to float; `verify` checks the backends."""

    bundle: Path
    variant: str
    scheme: str
    selftest_db: float
    """PSNR to the float output on the bundle's self-test image, unit range."""
    held_out_db: float | None
    """PSNR to the float output over held-out images; None without images."""
    size_bytes: int
    float_size_bytes: int
    weight_clip: WeightClip = "none"
    """Weight clipping that was kept."""
    weight_clip_gain_db: float | None = None
    """Gain of the weight clipping on held-out crops or, without images, on the self-test; None if it was not tried."""
    bias_correction: BiasCorrection = "none"
    """Bias correction that was kept."""
    bias_correction_gain_db: float | None = None
    """Gain of the bias correction, beside the weight clipping that was kept; None if it was not tried."""
    held_out_crops: int = 0
    """Number of images or windows that calibration has not seen and that `held_out_db` was measured on."""
    loss: HeldOutLoss | None = None
    """PSNR that is lost on them; None without images."""
    float_layers: tuple[str, ...] = ()
    """Outputs of the layers that are kept in float."""
    trained_ranges: int = 0
    """Number of activation ranges that the weights were trained with, and that were used instead of measured ones."""
    measured_ranges: int = 0
    """Number of activation ranges that the calibrator chose."""
    removed: tuple[Removed, ...] = ()
    """Variants of other backends that held the old encoding and were removed from the bundle."""
