"""Check how much a bundle improves images, and which images it makes worse: `python benchmarks/quality.py MODEL ...`.

MODEL is a bundle, or the name of a shipped one. It runs as users run it, through `edgedenoise.load`, on real noise and
on camera noise of 20 to 45 dB added to held-out free photos, to the means of PolyU and to Kodak24. PSNR is computed on
8-bit sRGB. An image counts as worse when its PSNR is more than 0.1 dB below that of its noisy input.

The colour shift is the mean difference of a channel to the ground truth; that of the noisy input is beside it, because
noise that is clipped at black shifts the mean itself. Blotches are the root mean square of the error of the two colour
differences after a mean over 16x16 pixels. With `--peers`, OpenCV's NLM and scikit-image's wavelets run beside the
models, with the strength that follows from the estimated noise and with the best strength for the set.

Images are read from $EDGEDENOISE_DATA. Tables go to standard output, `quality.json` to --out.
"""

from __future__ import annotations

import peers  # before numpy is loaded: it sets the number of threads

# isort: split

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from harness import check_out, note, parser_of, positive, run_benchmark, write_results
from image_sets import HARM_SETS, MAIN_SETS, SETS, chosen_sets

import edgedenoise
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.metrics import blotches_lsb, psnr
from edgedenoise.runtimes.noise_plane import noise_of
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from image_sets import Pair, Pixels

    Method = Callable[[Pixels], Pixels]

WORSE_DB = 0.1
LEVEL_FACTORS = {"OpenCV NLM": 0.8, "skimage wavelet": 1.0}
"""Strength of a classical method, in units of the estimated noise level in 8-bit levels."""


@dataclass(frozen=True)
class Judged:
    """A method on a set."""

    method: str
    psnr_db: float
    """Mean over the images."""
    gain_db: float
    """Mean gain over the noisy input."""
    worst_gain_db: float
    """The least gain of an image."""
    worse: int
    """Number of images more than `WORSE_DB` below their input."""
    images: int
    colour_shift: float
    """Largest of the three channels, mean over the images, in 8-bit levels."""
    blotches: float
    """Root mean square, in 8-bit levels."""
    ms_per_mp: float | None


def judged(name: str, pairs: list[Pair], run: Method) -> Judged:
    """Run a method over all pairs of a set."""
    before, after, shifts, blotched = [], [], [], []
    seconds = pixels = 0.0
    for noisy, clean in pairs:
        start = time.process_time()
        answer = run(noisy)
        seconds += time.process_time() - start
        pixels += clean.shape[0] * clean.shape[1] / 1e6
        before.append(psnr(noisy, clean))
        after.append(psnr(answer, clean))
        shift = (answer.astype(np.float64) - clean).mean(axis=(0, 1))
        shifts.append(float(np.abs(shift).max()))
        blotched.append(blotches_lsb(answer, clean))
    # A clean input has an infinite PSNR: its gain says nothing, and its answer is judged by its own PSNR.
    finite = np.isfinite(before)
    gains = np.where(finite, np.array(after) - np.where(finite, before, 0), 0.0)
    return Judged(
        name,
        float(np.mean(np.minimum(after, 99.0))),
        float(gains.mean()),
        float(gains.min()),
        int((gains < -WORSE_DB).sum()),
        len(pairs),
        float(np.mean(shifts)),
        float(np.mean(blotched)),
        seconds * 1000 / pixels,
    )


def estimated_level(noisy: Pixels) -> float:
    """Return the root mean square of the estimated noise, in 8-bit levels."""
    return noise_of(to_unit(noisy)).rms_lsb


def with_estimate(peer: peers.Peer, noisy: Pixels) -> Pixels:
    """Run a classical method with the strength that follows from the estimated noise."""
    return peer.run(noisy, LEVEL_FACTORS[peer.name] * estimated_level(noisy))


def classical(pairs: list[Pair]) -> list[Judged]:
    """Judge NLM and wavelets with the estimated and with the best strength."""
    rows = []
    for peer in peers.PEERS:
        if peer.name not in LEVEL_FACTORS or peer.missing:
            continue
        rows.append(judged(f"{peer.name}, estimated", pairs, partial(with_estimate, peer)))
        swept = peers.sweep(peer, pairs)
        best = max(swept, key=swept.__getitem__)
        rows.append(judged(f"{peer.name}, best ({best:g})", pairs, partial(peer.run, strength=best)))
    return rows


def text(rows: list[Judged]) -> str:
    """Format the rows of a set."""
    cells = [
        [
            row.method, f"{row.psnr_db:.2f}", f"{row.gain_db:+.2f}", f"{row.worst_gain_db:+.2f}",
            f"{row.worse}/{row.images}", f"{row.colour_shift:.2f}", f"{row.blotches:.2f}", f"{row.ms_per_mp:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(["method", "PSNR dB", "gain", "worst gain", "worse", "colour shift", "blotches", "CPU ms/MP"], cells)


def main() -> None:
    parser = parser_of(__doc__, "quality")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    default = [SETS[name] for name in (*MAIN_SETS, *HARM_SETS)]
    parser.add_argument("--sets", type=chosen_sets, default=default, metavar="NAME,NAME", help=f"of {', '.join(SETS)}")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    parser.add_argument("--precision", action="append", metavar="NAME", help="such as fp32 or int8; default: both")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--peers", action="store_true", help="classical methods too")
    options = parser.parse_args()
    check_out(options.out, "quality")
    methods: dict[str, edgedenoise.Denoiser] = {
        f"{model} {precision}": edgedenoise.load(
            model, runtime="onnxruntime", precision=precision, strength=options.strength, threads=1
        )
        for model in options.models
        for precision in options.precision or ["fp32", "int8"]
    }
    found = {}
    for chosen in options.sets:
        note(chosen.name)
        pairs = chosen.read(options.every)
        rows = [judged("noisy input", pairs, lambda x: x)]
        rows += [judged(name, pairs, denoiser) for name, denoiser in methods.items()]
        rows += classical(pairs) if options.peers else []
        found[chosen.name] = rows
        print(f"{chosen.name}: {len(pairs)} images, {chosen.description}", text(rows), "", sep="\n", flush=True)
        write_results(options.out, "quality", found, peers.used_packages())
    for denoiser in methods.values():
        denoiser.close()


if __name__ == "__main__":
    run_benchmark(main)
