"""Check the kept detail, which needs no ground truth, against the truth: `python benchmarks/no_reference.py edge`.

Camera noise of 20 to 32 dB is added to Kodak images. Blurs of known strength and bundles denoise them. `compare`
estimates the kept detail from the noisy and the denoised image; here the clean image is known, and gives the true share
in the same blocks: the regression of the result's fine structure on the clean image's.

Images are read from $EDGEDENOISE_DATA. Tables go to standard output, `no_reference.json` to --out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from harness import check_out, note, parser_of, positive, run_benchmark, write_results
from image_sets import SETS

import edgedenoise
from edgedenoise.noise.no_reference import Places
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from image_sets import Pair, Pixels

    Method = Callable[[Pixels], Pixels]

LEVELS_DB = (20, 26, 32)


@dataclass(frozen=True)
class Checked:
    """A method at one noise level."""

    method: str
    noisy_db: int
    residual_noise_lsb: float
    detail_kept: float
    """Estimated without the clean image; mean over the images."""
    true_detail_kept: float
    """Computed with the clean image, in the same blocks; mean over the images."""
    largest_difference: float
    """Of the two, over the images."""


def mixed_with_mean(weight: float) -> Method:
    """Return a filter that mixes an image with its means over 3 x 3 pixels."""

    def run(pixels: Pixels) -> Pixels:
        padded = np.pad(pixels.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="reflect")
        height, width = pixels.shape[:2]
        mean = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
        return np.floor((1 - weight) * pixels + weight * mean + 0.5).astype(np.uint8)

    return run


def checked(name: str, run: Method, pairs: list[Pair], level: int) -> Checked:
    """Measure a method on images whose clean versions are known."""
    noise, estimates, truths = [], [], []
    for noisy, clean in pairs:
        places = Places(noisy)
        result = run(noisy)
        found = places.measure(result)
        if found.detail_kept is not None:
            noise.append(found.residual_noise_lsb)
            estimates.append(found.detail_kept)
            truths.append(places.true_detail_kept(result, clean))
    difference = float(np.abs(np.subtract(estimates, truths)).max())
    return Checked(name, level, float(np.mean(noise)), float(np.mean(estimates)), float(np.mean(truths)), difference)


def main() -> None:
    parser = parser_of(__doc__, "no_reference")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="bundles, or names of shipped ones")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image")
    options = parser.parse_args()
    check_out(options.out, "no_reference")
    methods: dict[str, Method] = {f"{weight:.0%} blurred": mixed_with_mean(weight) for weight in (0.5, 1.0)}
    for model in options.models:
        methods[model] = edgedenoise.load(model, runtime="onnxruntime", precision="fp32", threads=1)
    rows = []
    for level in LEVELS_DB:
        note(f"{level} dB")
        pairs = SETS[f"kodak24_{level}"].read(options.every)
        rows += [checked(name, run, pairs, level) for name, run in methods.items()]
    cells = [
        [str(row.noisy_db), row.method, f"{row.residual_noise_lsb:.1f}", f"{row.detail_kept:.2f}",
         f"{row.true_detail_kept:.2f}", f"{row.largest_difference:.2f}"]
        for row in rows
    ]  # fmt: skip
    print(table(["noise dB", "method", "residual noise", "detail", "true detail", "largest difference"], cells))
    write_results(options.out, "no_reference", rows)


if __name__ == "__main__":
    run_benchmark(main)
