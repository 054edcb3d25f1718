"""Draw the curves of a run: losses and validation results over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.atomic import atomic_file, output_errors
from edgedenoise.training.loop.logs import LOG, VALIDATION, read_columns

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CURVES = "curves.png"
_NO_LOSS = ("step", "seconds", "learning_rate", "ramp", "gradient_norm")


def write_curves(run: Path) -> bool:
    """Write `RUN/curves.png` from the logs of a run; return False when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    rows, found = read_columns(run / LOG), read_columns(run / VALIDATION)
    if not rows:
        return True
    # Figure instead of pyplot: no global state, no display.
    figure = Figure(figsize=(9, 7), layout="constrained")
    losses, quality = figure.subplots(2, 1, sharex=True)
    parts = [name for name in rows if name not in _NO_LOSS]
    in_db = bool((rows["total"] < 0).any())
    for name in ["total"] if in_db else parts:  # next to decibels the other parts would be lines at zero
        losses.plot(rows["step"], smoothed(rows[name]), label=name, linewidth=1.2)
    if "held_out_loss" in found:
        losses.plot(found["step"], found["held_out_loss"], "k.-", label="held out")
    losses.set_ylabel("loss (dB)" if in_db else "loss")
    if not in_db:
        losses.set_yscale("log")
    _finish(losses)
    _draw_quality(quality, rows, found)
    quality.set_xlabel("step")
    with atomic_file(run / CURVES) as temporary, output_errors(run / CURVES):
        figure.savefig(temporary, dpi=110)
    return True


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return running means over a fiftieth of the curve, in its length: losses of single batches jump."""
    width = max(1, len(values) // 50)
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts), np.float64)


def _draw_quality(axes: Any, rows: dict[str, NDArray[np.float64]], found: dict[str, NDArray[np.float64]]) -> None:
    """Draw the PSNR where there is ground truth, and else the learning rate."""
    if np.isfinite(found.get("psnr_db", np.empty(0))).any():
        axes.plot(found["step"], found["psnr_db"], "o-", markersize=3, label="PSNR, clean images")
        axes.set_ylabel("PSNR (dB)")
    else:
        axes.plot(rows["step"], rows["learning_rate"], label="learning rate")
        axes.set_ylabel("learning rate")
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
