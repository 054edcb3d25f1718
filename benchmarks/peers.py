"""Compare classical denoisers at their best strength: `python benchmarks/peers.py DIR`.

DIR holds `noisy/` and `clean/`. A network is compared with the best strength of a classical method for the whole set,
not with its default: the default estimate of sigma finds almost nothing in the correlated noise of a camera. One
strength per method and set is chosen by mean PSNR against the ground truth, which a real user does not have. PSNR and
SSIM are computed on clipped, rounded 8-bit sRGB. Time is the CPU time of the process with one thread, so other work on
the machine does not count.

`--bundle edge` runs the float and INT8 variants of a bundle beside the methods, and `--peer model.onnx` any other ONNX
denoiser; both without tuning.

The packages of the peers are in the extra `peers`; edgedenoise never imports them. bm3d is for non-commercial use and
takes minutes per megapixel: `--bm3d` runs it and the others on ten fixed crops, which takes ten minutes more.
"""

# ruff: noqa: E402 - the number of threads is set before numpy is loaded

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np
from harness import check_out, note, parser_of, positive, run_benchmark, write_results
from image_sets import read_pairs
from onnx_peer import OnnxPeer, PeerFormat

import edgedenoise
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.imaging.metrics import Quality, mean_quality, psnr, quality_of
from edgedenoise.tables import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from image_sets import Pair, Pixels

STRENGTHS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100)
SLOW_STRENGTHS = (6, 9, 13, 20, 30, 50, 70)
CROPS = 10
CROP_PX = 256
FALL_DB = 0.1  # a sweep ends when two strengths in a row are this far below the best


@dataclass(frozen=True)
class Peer:
    """A classical method with one strength, in 8-bit levels."""

    name: str
    setting: str
    """What the strength is called there, as a format."""
    packages: dict[str, str]
    """What is imported -> what pip calls it."""
    run: Callable[[Pixels, float], Pixels]
    strengths: tuple[float, ...] = STRENGTHS

    @property
    def missing(self) -> list[str]:
        """What pip would have to install."""
        return [name for module, name in self.packages.items() if importlib.util.find_spec(module) is None]


@dataclass(frozen=True)
class Result:
    """A method on a set."""

    name: str
    setting: str
    quality: Quality
    ms_per_mp: float | None
    sweep: dict[float, float]
    """Strength -> mean PSNR in dB on the images of the sweep."""


# ---------------------------------------------------------------- the methods: (H, W, 3) uint8 in and out


def opencv_nlm(pixels: Pixels, strength: float) -> Pixels:
    import cv2

    cv2.setNumThreads(1)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    clean = cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength, 7, 21)
    return np.asarray(cv2.cvtColor(clean, cv2.COLOR_BGR2RGB))


def skimage_wavelet(pixels: Pixels, strength: float) -> Pixels:
    import pywt
    from skimage.restoration import denoise_wavelet

    # Five levels, because correlated noise reaches far: scikit-image's own choice, three fewer than fit, lost up to
    # 6 dB on crops of 256x256, and its default, Haar wavelets, up to 0.8.
    levels = min(5, pywt.dwt_max_level(min(pixels.shape[:2]), "sym4"))
    clean = denoise_wavelet(
        to_unit(pixels), sigma=strength / 255, wavelet="sym4", wavelet_levels=levels, method="BayesShrink",
        mode="soft", convert2ycbcr=True, rescale_sigma=True, channel_axis=-1,
    )  # fmt: skip
    return from_unit(clean, np.uint8)


def skimage_nlm(pixels: Pixels, strength: float) -> Pixels:
    from skimage.restoration import denoise_nl_means

    sigma = strength / 255  # h = 0.6 sigma is scikit-image's own advice for the fast mode
    clean = denoise_nl_means(
        to_unit(pixels), patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    return from_unit(clean, np.uint8)


def bm3d_rgb(pixels: Pixels, strength: float) -> Pixels:
    from bm3d import bm3d_rgb as denoise

    return from_unit(denoise(to_unit(pixels), strength / 255), np.uint8)


SKIMAGE = {"skimage": "scikit-image"}
PEERS = (
    Peer("OpenCV NLM", "h = hColor = {:g}", {"cv2": "opencv-python-headless"}, opencv_nlm),
    Peer("skimage wavelet", "sigma = {:g}", SKIMAGE | {"pywt": "PyWavelets"}, skimage_wavelet),
    Peer("skimage NLM", "sigma = {:g}", SKIMAGE, skimage_nlm),
)
BM3D = Peer("bm3d_rgb", "sigma = {:g}", {"bm3d": "bm3d"}, bm3d_rgb, SLOW_STRENGTHS)


# ---------------------------------------------------------------- measuring


def sweep(peer: Peer, pairs: list[Pair]) -> dict[float, float]:
    """Return strength -> mean PSNR, from weak to strong, until the PSNR falls."""
    found: dict[float, float] = {}
    for strength in peer.strengths:
        found[strength] = float(np.mean([psnr(peer.run(noisy, strength), clean) for noisy, clean in pairs]))
        note(f"{peer.name}: {peer.setting.format(strength)}: {found[strength]:.3f} dB")
        if max(list(found.values())[-2:]) < max(found.values()) - FALL_DB:
            break
    return found


def measure(peer: Peer, pairs: list[Pair], swept: dict[float, float]) -> Result:
    """Run the best strength of a sweep over all pairs."""
    strength = max(swept, key=swept.__getitem__)
    setting = peer.setting.format(strength)
    if strength in (peer.strengths[0], peer.strengths[-1]):
        setting += " (end of the sweep)"
    return measure_method(peer.name, setting, partial(peer.run, strength=strength), pairs, swept)


def measure_method(
    name: str,
    setting: str,
    run: Callable[[Pixels], Pixels],
    pairs: list[Pair],
    swept: dict[float, float] | None = None,
) -> Result:
    """Run a method over all pairs: quality, and CPU time per megapixel."""
    qualities, times = [], []
    for noisy, clean in pairs:
        start = time.process_time()
        denoised = run(noisy)
        times.append((time.process_time() - start) * 1000 / (noisy.shape[0] * noisy.shape[1] / 1e6))
        qualities.append(quality_of(denoised, clean))
    return Result(name, setting, mean_quality(qualities), float(np.median(times)), swept or {})


def opened_models(options: argparse.Namespace) -> dict[str, Callable[[Pixels], Pixels]]:
    """Return the bundles and ONNX models that were asked for, by name."""
    form = PeerFormat(options.peer_white, options.peer_output, options.peer_multiple)
    models: dict[str, Callable[[Pixels], Pixels]] = {}
    for bundle in options.bundle:
        for precision in ("fp32", "int8"):
            name = f"{Path(bundle).stem} {precision}"
            models[name] = edgedenoise.load(bundle, runtime="onnxruntime", precision=precision, threads=1)
    return models | {peer.name: peer for peer in (OnnxPeer(path, form) for path in options.peer)}


def best_of(peers: list[Peer], pairs: list[Pair], swept: list[Pair]) -> list[Result]:
    """Return the noisy input, and each method at its best strength on `swept`."""
    return [noisy_input(pairs), *(measure(peer, pairs, sweep(peer, swept)) for peer in peers)]


def noisy_input(pairs: list[Pair]) -> Result:
    quality = mean_quality([quality_of(noisy, clean) for noisy, clean in pairs])
    return Result("noisy input", "", quality, None, {})


def fixed_crops(pairs: list[Pair]) -> list[Pair]:
    """Return the middle of ten pairs that are evenly spaced in the order of names."""
    chosen = np.linspace(0, len(pairs) - 1, min(CROPS, len(pairs))).astype(int)
    return [(middle(pairs[index][0]), middle(pairs[index][1])) for index in chosen]


def middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, (side - CROP_PX) // 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + CROP_PX, left : left + CROP_PX])


# ---------------------------------------------------------------- reporting


def missing_line(peer: Peer) -> str:
    return f"{peer.name} was left out because a package is missing; install with: pip install {' '.join(peer.missing)}"


def used_packages() -> set[str]:
    """Return the packages of the methods that have been imported."""
    return {name for peer in (*PEERS, BM3D) for module, name in peer.packages.items() if module in sys.modules}


def result_cells(result: Result) -> list[str]:
    """Return the cells of a row: method, setting, PSNR, SSIM, milliseconds per megapixel."""
    time_cell = "" if result.ms_per_mp is None else f"{result.ms_per_mp:.0f}"
    return [result.name, result.setting, f"{result.quality.psnr_db:.2f}", f"{result.quality.ssim:.4f}", time_cell]


def text(results: list[Result]) -> str:
    return table(["method", "best setting", "PSNR dB", "SSIM", "ms/MP"], [result_cells(one) for one in results])


def main() -> None:
    parser = parser_of("Compare classical denoisers at their best strength on a set of images.", "peers")
    parser.add_argument("folder", type=Path, help="folder with noisy/ and clean/")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="sweep on every N-th image only")
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME", help="our bundle, or a shipped one")
    parser.add_argument("--peer", action="append", default=[], type=Path, metavar="ONNX", help="another ONNX denoiser")
    parser.add_argument("--peer-white", type=float, default=1.0, metavar="VALUE", help="white of --peer: 1 or 255")
    parser.add_argument("--peer-output", choices=("image", "noise"), default="image", help="what --peer returns")
    parser.add_argument("--peer-multiple", type=positive, default=16, metavar="N", help="--peer needs sides of N x k")
    parser.add_argument("--bm3d", action="store_true", help="a second table with bm3d, on ten fixed crops of 256x256")
    options = parser.parse_args()
    check_out(options.out, "peers")
    pairs = read_pairs(options.folder)
    there = [peer for peer in PEERS if not peer.missing]
    left_out = [missing_line(peer) for peer in (*PEERS, *([BM3D] if options.bm3d else [])) if peer.missing]
    models = opened_models(options)
    swept = pairs[:: options.every]
    found = {
        f"{options.folder}: {len(pairs)} images, one best setting per method for all of them, found on {len(swept)}":
        [*best_of(there, pairs, swept), *(measure_method(name, "", run, pairs) for name, run in models.items())]
    }  # fmt: skip
    if options.bm3d:
        crops = fixed_crops(pairs)
        heading = f"{len(crops)} fixed crops of {CROP_PX}x{CROP_PX}, one best setting per method for all of them"
        found[heading] = [
            *best_of([*there, *([] if BM3D.missing else [BM3D])], crops, crops),
            *(measure_method(name, "", run, crops) for name, run in models.items()),
        ]
    for heading, results in found.items():
        print(heading, text(results), "", sep="\n")
    print(*left_out, sep="\n")
    write_results(options.out, "peers", {"sets": found, "left_out": left_out}, used_packages())


if __name__ == "__main__":
    run_benchmark(main)
