"""Classical denoisers at their best, on a folder of noisy and clean images: `python benchmarks/peers.py DIR`.

DIR holds `noisy/` and `clean/`. What a network has to beat is not a classical method as it comes (its own estimate of
sigma finds next to nothing in a camera's correlated noise) but with the best strength there is for the whole set: one
strength per method and set, chosen by mean PSNR against the ground truth, which a real user does not have. PSNR and
SSIM are the project's own, on clipped, rounded 8-bit sRGB. Time is the process's CPU time with one thread, so that
another job on the machine does not count.

The peers are in the extra `peers`; they are never imported by the package. bm3d is for non-commercial use and slow
(minutes per megapixel), so `--bm3d` runs it, beside the others, on ten fixed crops: ten minutes more.
"""

# ruff: noqa: E402 - the number of threads is told before numpy is loaded

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import msgspec
import numpy as np

from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.imaging.metrics import Quality, mean_quality, psnr, ssim
from edgedenoise.imaging.pairs import check_pair, list_pairs
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Pair = tuple[Picture, Picture]

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
    run: Callable[[Picture, float], Picture]
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


def opencv_nlm(picture: Picture, strength: float) -> Picture:
    import cv2

    cv2.setNumThreads(1)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    clean = cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength, 7, 21)
    return np.asarray(cv2.cvtColor(clean, cv2.COLOR_BGR2RGB))


def skimage_wavelet(picture: Picture, strength: float) -> Picture:
    import pywt
    from skimage.restoration import denoise_wavelet

    # Five levels, because correlated noise reaches far: scikit-image's own choice, three fewer than fit, lost up to
    # 6 dB on crops of 256x256, and its default, Haar wavelets, up to 0.8.
    levels = min(5, pywt.dwt_max_level(min(picture.shape[:2]), "sym4"))
    clean = denoise_wavelet(
        to_unit(picture), sigma=strength / 255, wavelet="sym4", wavelet_levels=levels, method="BayesShrink",
        mode="soft", convert2ycbcr=True, rescale_sigma=True, channel_axis=-1,
    )  # fmt: skip
    return from_unit(clean, np.uint8)


def skimage_nlm(picture: Picture, strength: float) -> Picture:
    from skimage.restoration import denoise_nl_means

    sigma = strength / 255  # h = 0.6 sigma is scikit-image's own advice for the fast mode
    clean = denoise_nl_means(
        to_unit(picture), patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    return from_unit(clean, np.uint8)


def bm3d_rgb(picture: Picture, strength: float) -> Picture:
    from bm3d import bm3d_rgb as denoise

    return from_unit(denoise(to_unit(picture), strength / 255), np.uint8)


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
        tell(f"{peer.name}: {peer.setting.format(strength)}: {found[strength]:.3f} dB")
        if max(list(found.values())[-2:]) < max(found.values()) - FALL_DB:
            break
    return found


def measure(peer: Peer, pairs: list[Pair], swept: dict[float, float]) -> Result:
    """Run the best strength of a sweep over all pairs."""
    strength = max(swept, key=swept.__getitem__)
    qualities, times = [], []
    for noisy, clean in pairs:
        start = time.process_time()
        denoised = peer.run(noisy, strength)
        times.append((time.process_time() - start) * 1000 / (noisy.shape[0] * noisy.shape[1] / 1e6))
        qualities.append(Quality(psnr(denoised, clean), ssim(denoised, clean)))
    setting = peer.setting.format(strength)
    if strength in (peer.strengths[0], peer.strengths[-1]):
        setting += " (end of the sweep)"
    return Result(peer.name, setting, mean_quality(qualities), float(np.median(times)), swept)


def best_of(peers: list[Peer], pairs: list[Pair], swept: list[Pair]) -> list[Result]:
    """Return the noisy input, and each method at its best strength on `swept`."""
    return [noisy_input(pairs), *(measure(peer, pairs, sweep(peer, swept)) for peer in peers)]


def noisy_input(pairs: list[Pair]) -> Result:
    quality = mean_quality([Quality(psnr(noisy, clean), ssim(noisy, clean)) for noisy, clean in pairs])
    return Result("noisy input", "", quality, None, {})


def fixed_crops(pairs: list[Pair]) -> list[Pair]:
    """Return the middle of ten pairs that are evenly spaced in the order of names."""
    chosen = np.linspace(0, len(pairs) - 1, min(CROPS, len(pairs))).astype(int)
    return [(middle(pairs[index][0]), middle(pairs[index][1])) for index in chosen]


def middle(picture: Picture) -> Picture:
    top, left = (max(0, (side - CROP_PX) // 2) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + CROP_PX, left : left + CROP_PX])


def read_pairs(folder: Path) -> list[Pair]:
    paths = list_pairs(folder / "noisy", folder / "clean")
    for noisy, clean in paths:
        check_pair(noisy, clean)
    return [tuple(from_unit(read_image(path).unit(), np.uint8) for path in pair) for pair in paths]  # type: ignore[misc]


# ---------------------------------------------------------------- telling


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def missing_line(peer: Peer) -> str:
    return f"{peer.name} was left out; install what it needs: pip install {' '.join(peer.missing)}"


def versions() -> dict[str, str]:
    """Return what is installed of the packages that the methods come from."""
    names = {name for peer in (*PEERS, BM3D) for module, name in peer.packages.items() if module in sys.modules}
    return {name: metadata.version(name) for name in sorted(names)}


def text(results: list[Result]) -> str:
    rows = [
        [r.name, r.setting, f"{r.quality.psnr_db:.2f}", f"{r.quality.ssim:.4f}",
         "" if r.ms_per_mp is None else f"{r.ms_per_mp:.0f}"]
        for r in results
    ]  # fmt: skip
    return table(["method", "best setting", "PSNR dB", "SSIM", "ms/MP"], rows)


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    return [asdict(r) | {"quality": msgspec.to_builtins(r.quality)} for r in results]


def main() -> int:
    parser = argparse.ArgumentParser(description="Classical denoisers at their best on a set of images.")
    parser.add_argument("folder", type=Path, help="holds noisy/ and clean/")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="sweep on every N-th image only")
    parser.add_argument("--bm3d", action="store_true", help="a second table with bm3d, on ten fixed crops of 256x256")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()

    try:
        pairs = read_pairs(options.folder)
    except EdgeDenoiseError as error:
        tell(f"error: {error}")
        return error.exit_code
    there = [peer for peer in PEERS if not peer.missing]
    left_out = [missing_line(peer) for peer in (*PEERS, *([BM3D] if options.bm3d else [])) if peer.missing]
    results = best_of(there, pairs, pairs[:: options.every])
    heading = (
        f"{options.folder}: {len(pairs)} images, one best setting per method for all of them, "
        f"found on {len(pairs[:: options.every])}"
    )
    crops = fixed_crops(pairs) if options.bm3d else []
    crop_results = best_of([*there, *([] if BM3D.missing else [BM3D])], crops, crops) if crops else []
    crop_heading = f"{len(crops)} fixed crops of {CROP_PX}x{CROP_PX}, one best setting per method for all of them"
    if options.json:
        told = {"heading": heading, "results": as_json(results), "left_out": left_out, "versions": versions()}
        if crops:
            told |= {"crop_heading": crop_heading, "crop_results": as_json(crop_results)}
        print(json.dumps(told, indent=1))
        return 0
    print(heading, text(results), sep="\n")
    if crops:
        print("", crop_heading, text(crop_results), sep="\n")
    print("", *left_out, ", ".join(f"{name} {version}" for name, version in versions().items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
