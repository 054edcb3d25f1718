"""Compare synthetic camera noise with real noise: `python benchmarks/camera_noise.py`.

Real noise is noisy minus clean of `polyu_test` and `sidd_dev` in $EDGEDENOISE_DATA. Synthetic noise is what
`edgedenoise.noise.synthesis` adds to the same clean images at the same PSNR, one draw per image. Plotted and printed
are the spatial correlation, the dependence on brightness, and the tails. The figure contains curves and no image.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import DATA, ROOT, check_out, parser_of, run_benchmark, write_results

from edgedenoise.atomic import atomic_file
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.metrics import psnr
from edgedenoise.imaging.pairs import list_pairs
from edgedenoise.noise.estimation import LAGS, autocorrelation
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.tables import table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BIN_LEVELS = 16
FEWEST = 2000  # pixels of an image in a bin of brightness; fewer give no reliable deviation
BRIGHTNESS = np.arange(BIN_LEVELS / 2, 256, BIN_LEVELS)
UNITS = np.linspace(-8, 8, 65)
"""Edges of the histogram of noise in units of its deviation."""


@dataclass(frozen=True)
class NoiseSet:
    """Images with their ground truth, and the cameras to imitate."""

    folder: str
    label: str
    every: int
    cameras: tuple[str, ...]
    jpeg: bool
    colour: str


SETS = (
    NoiseSet("polyu_test", "PolyU", 4, ("full-frame", "aps-c"), True, "#1f6fb4"),
    NoiseSet("sidd_dev", "SIDD", 1, ("phone",), False, "#d2601a"),
)


@dataclass(frozen=True)
class Statistics:
    """Statistics of noise in 8-bit levels, averaged over a set."""

    psnr_db: float
    correlation: Array
    """(9,): of the noise with itself 0 to 8 pixels away."""
    lag_1_range: tuple[float, float]
    """The 5th and 95th percentile over images."""
    sigma: Array
    """(16,): root mean square by brightness of the clean pixel; NaN where there are too few."""
    density: Array
    """(64,): of noise in units of its own deviation, per image and brightness."""
    colours: float
    """Mean correlation between the noise of two channels."""

    def beyond(self, units: float) -> float:
        """Return the share of noise beyond so many deviations."""
        centres = (UNITS[1:] + UNITS[:-1]) / 2
        return float(self.density[np.abs(centres) > units].sum() * (UNITS[1] - UNITS[0]))

    def sigma_between(self, low: int, high: int) -> float:
        """Return the root mean square over bins of brightness, all weighing the same."""
        chosen = self.sigma[(low <= BRIGHTNESS) & (high > BRIGHTNESS)]
        return float(np.sqrt(np.mean(chosen[np.isfinite(chosen)] ** 2))) if np.isfinite(chosen).any() else np.nan


def statistics(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> Statistics:
    """Measure (noisy, clean) pairs of images (H, W, 3) in levels of 0 to 255."""
    lags, colours, quality = [], [], []
    squares, counts, histogram = np.zeros(len(BRIGHTNESS)), np.zeros(len(BRIGHTNESS)), np.zeros(len(UNITS) - 1)
    for noisy, clean in pairs:
        noise = noisy - clean
        lags.append(autocorrelation(noise))
        colours.append(np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)].mean())
        quality.append(psnr(noisy / 255, clean / 255))
        bins = (clean.mean(axis=2) // BIN_LEVELS).astype(int)
        for bin_ in np.unique(bins):
            there = noise[bins == bin_].astype(np.float64)
            if len(there) < FEWEST:
                continue
            squares[bin_] += (there**2).sum()
            counts[bin_] += there.size
            if 0 < bin_ < len(BRIGHTNESS) - 1:  # clipping at black and white is not a tail
                deviations = (there - there.mean(axis=0)) / there.std(axis=0)
                histogram += np.histogram(deviations, UNITS)[0]
    sigma = np.sqrt(np.divide(squares, counts, out=np.full_like(squares, np.nan), where=counts > 0))
    first = [one[0] for one in lags]
    return Statistics(
        float(np.mean(quality)),
        np.concatenate([[1.0], np.mean(lags, axis=0)]),
        (float(np.quantile(first, 0.05)), float(np.quantile(first, 0.95))),
        sigma,
        histogram / histogram.sum() / (UNITS[1] - UNITS[0]),
        float(np.mean(colours)),
    )


def real_and_synthetic(chosen: NoiseSet) -> tuple[Statistics, Statistics]:
    real, synthetic = [], []
    pairs = list_pairs(DATA / chosen.folder / "noisy", DATA / chosen.folder / "clean")[:: chosen.every]
    for seed, (noisy_path, clean_path) in enumerate(pairs):
        noisy, clean = (to_unit(read_image(path).pixels) for path in (noisy_path, clean_path))
        rng = np.random.default_rng(seed)
        camera = chosen.cameras[seed % len(chosen.cameras)]
        parameters = parameters_for_psnr(clean, psnr(noisy, clean), rng, camera=camera, jpeg=chosen.jpeg)
        real.append((noisy * 255, clean * 255))
        synthetic.append((add_camera_noise(clean, parameters, rng) * 255, clean * 255))
    return statistics(real), statistics(synthetic)


# ---------------------------------------------------------------- reporting


def text(found: dict[NoiseSet, tuple[Statistics, Statistics]]) -> str:
    header = [
        "noise",
        "PSNR dB",
        "lag 1",
        "5 to 95 %",
        "lag 2",
        "lag 4",
        "dark",
        "middle",
        "bright",
        "colours",
        "> 3 sigma",
    ]
    rows = []
    for one, both in found.items():
        for name, s in zip(("real", "synthetic"), both, strict=True):
            rows.append(
                [f"{one.folder}, {name}", f"{s.psnr_db:.2f}", f"{s.correlation[1]:.2f}",
                 f"{s.lag_1_range[0]:.2f}-{s.lag_1_range[1]:.2f}",
                 f"{s.correlation[2]:.2f}", f"{s.correlation[4]:.2f}", f"{s.sigma_between(0, 32):.1f}",
                 f"{s.sigma_between(64, 128):.1f}", f"{s.sigma_between(208, 256):.1f}", f"{s.colours:.2f}",
                 f"{100 * s.beyond(3):.2f} %"]
            )  # fmt: skip
    return table(header, rows)


def as_lists(found: Statistics) -> dict[str, Any]:
    """Return statistics with lists in place of arrays, as JSON needs them."""
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in dataclasses.asdict(found).items()
    }


def draw(found: dict[NoiseSet, tuple[Statistics, Statistics]], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
    figure, (lag_axes, level_axes, tail_axes) = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
    centres = (UNITS[1:] + UNITS[:-1]) / 2
    reference = {"color": "0.55", "linestyle": ":", "linewidth": 1.5}

    lag_axes.fill_between([0.8, 1.2], 0.2, 0.6, color="0.87", linewidth=0, zorder=0, label="target at distance 1")
    lag_axes.plot(range(LAGS + 1), [1, *[0] * LAGS], **reference, label="independent noise")
    tail_axes.plot(centres, np.exp(-(centres**2) / 2) / np.sqrt(2 * np.pi), **reference, label="normal distribution")
    for one, both in found.items():
        for s, name, style in zip(both, ("real", "synthetic"), ("-o", "--s"), strict=True):
            look = {"color": one.colour, "label": f"{one.label}, {name}", "linewidth": 1.5, "markersize": 4}
            if name == "synthetic":
                look["markerfacecolor"] = "white"
            lag_axes.plot(range(LAGS + 1), s.correlation, style, **look)
            level_axes.plot(BRIGHTNESS, s.sigma, style, **look)
            seen = np.where(s.density > 0, s.density, np.nan)
            tail_axes.plot(centres, seen, style[:-1], color=one.colour, linewidth=1.5)

    lag_axes.set(title="Spatial correlation", xlabel="distance (pixels)", ylabel="autocorrelation of the noise")
    level_axes.set(
        title="Noise against brightness", xlabel="brightness of the clean pixel (8-bit level)", xlim=(0, 255),
        ylabel="root mean square noise (8-bit levels)", yscale="log", ylim=(1.2, 30),
    )  # fmt: skip
    level_axes.yaxis.set_major_locator(FixedLocator([1.5, 2, 3, 5, 10, 20, 30]))
    level_axes.yaxis.set_minor_locator(NullLocator())
    level_axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    level_axes.xaxis.set_major_locator(FixedLocator([0, 64, 128, 192, 255]))
    tail_axes.set(
        title="Tails", xlabel="noise (standard deviations at its brightness)", ylabel="probability density",
        yscale="log", ylim=(1e-6, 1), xlim=(-8, 8),
    )  # fmt: skip
    tail_axes.legend(frameon=False, loc="upper right", fontsize=8)
    for axes in (lag_axes, level_axes, tail_axes):
        axes.grid(color="0.92", linewidth=0.7)
        axes.set_axisbelow(True)
    tail_axes.xaxis.set_major_locator(FixedLocator([-8, -6, -4, -2, 0, 2, 4, 6, 8]))
    handles, labels = lag_axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    with atomic_file(target) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = parser_of(__doc__, "camera_noise")
    figure = ROOT / "docs" / "assets" / "figures" / "camera-noise.png"
    parser.add_argument("--figure", type=Path, default=figure, metavar="PNG")
    options = parser.parse_args()
    check_out(options.out, "camera_noise")
    found = {one: real_and_synthetic(one) for one in SETS}
    print(text(found))
    draw(found, options.figure)
    results = {one.folder: {"real": as_lists(real), "synthetic": as_lists(made)} for one, (real, made) in found.items()}
    write_results(options.out, "camera_noise", results)


if __name__ == "__main__":
    run_benchmark(main)
