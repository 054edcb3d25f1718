"""Measure how reliably `doctor --data` accepts and refuses images: `python benchmarks/data_check.py`.

Real images are read from $EDGEDENOISE_DATA, see CONTRIBUTING.md. The rows that should be refused are clean images, and
noisy ones that were resized or denoised on purpose. The last line is the cost of the check, as a multiple of the
processor time of reading the images. It takes some minutes; the table is shown in docs/concepts/data-check.md.
"""

from __future__ import annotations

import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import DATA, check_out, note, parser_of, run_benchmark, write_results
from PIL import Image as PILImage

from edgedenoise.datacheck.check import check_images
from edgedenoise.imaging.files import from_unit, read_image, to_unit, write_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import Image
from edgedenoise.noise.estimation import estimate_noise
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
FILTERS = {
    "lanczos": PILImage.Resampling.LANCZOS,
    "bicubic": PILImage.Resampling.BICUBIC,
    "box": PILImage.Resampling.BOX,
}


def middles(name: str, count: int, side: int = 1536) -> list[Pixels]:
    """Read the middle of images evenly spread over a folder."""
    paths = list_images(DATA / name)
    chosen = paths[:: max(1, len(paths) // count)][:count]
    found = []
    for path in chosen:
        pixels: Any = read_image(path).pixels
        top, left = (max(0, length - side) // 2 for length in pixels.shape[:2])
        found.append(pixels[top : top + side, left : left + side])
    return found


def camera(clean: Pixels, target_db: float, seed: int, *, jpeg: bool = False) -> Pixels:
    rng = np.random.default_rng([seed, int(target_db)])
    return from_unit(add_camera_noise(clean, parameters_for_psnr(clean, target_db, rng, jpeg=jpeg), rng), np.uint8)


def white(clean: Pixels, sigma: float, seed: int) -> Pixels:
    noise = np.random.default_rng([seed, int(sigma)]).normal(0, sigma / 255, clean.shape)
    return from_unit(np.clip(to_unit(clean) + noise, 0, 1).astype(np.float32), np.uint8)


def resized(pixels: Pixels, factor: float, kind: str) -> Pixels:
    size = [round(side * factor) for side in pixels.shape[1::-1]]
    return np.asarray(PILImage.fromarray(pixels).resize((size[0], size[1]), FILTERS[kind]))


def as_jpeg(pixels: Pixels) -> Pixels:
    stream = BytesIO()
    PILImage.fromarray(pixels).save(stream, "JPEG", quality=92, subsampling=2)
    return np.asarray(PILImage.open(stream))


def denoised(pixels: Pixels, kind: str) -> Pixels:
    from scipy import ndimage
    from skimage import restoration

    unit, sigma = to_unit(pixels), estimate_noise(pixels).sigma / 255
    if kind.startswith("gaussian"):
        blur = float(kind.split()[1])
        result = ndimage.gaussian_filter(unit, (blur, blur, 0))
    elif kind == "median 3x3":
        result = ndimage.median_filter(unit, (3, 3, 1))
    elif kind == "non-local means":
        result = restoration.denoise_nl_means(
            unit, h=0.8 * sigma, sigma=sigma, patch_size=5, patch_distance=4, fast_mode=True, channel_axis=2
        )
    else:
        result = restoration.denoise_tv_chambolle(unit, weight=2 * sigma, channel_axis=2)
    return from_unit(np.clip(result, 0, 1).astype(np.float32), np.uint8)


def folders() -> Iterator[tuple[str, str, list[Pixels]]]:
    """Yield (kind, right answer, images)."""
    for name in ("polyu_train/noisy", "polyu_test/noisy", "sidd_dev/noisy"):
        yield f"real: {name}", "accept", middles(name, 1000)
    clean = {name: middles(name, 9, 1200) for name in ("free_photos", "kodak24")}
    for name, images in clean.items():
        for jpeg in (False, True):
            kind = f"camera noise on {name}, 20 to 38 dB{', JPEG' if jpeg else ''}"
            for db in (20, 26, 32, 38):
                yield kind, "accept", [camera(pixels, db, seed, jpeg=jpeg) for seed, pixels in enumerate(images)]
        for sigma in (3, 5, 10, 25):
            yield f"white noise on {name}", "accept", [white(pixels, sigma, i) for i, pixels in enumerate(images)]
    for name in ("free_photos", "kodak24", "polyu_test/clean"):
        yield f"clean: {name}", "refuse", middles(name, 1000)
    sources = [middles("polyu_train/noisy", 12), middles("sidd_dev/noisy", 32)]
    sources += [[camera(pixels, 29, seed) for seed, pixels in enumerate(clean["free_photos"])]]
    for images in sources:
        yield from ((kind, "refuse", made) for kind, made in spoiled(images))


def spoiled(images: list[Pixels]) -> Iterator[tuple[str, list[Pixels]]]:
    """Yield (how the images were changed, the changed images)."""
    small = [pixels[:720, :720] for pixels in images]
    for factor in (0.5, 0.6, 0.75, 1.5, 2.0):
        many, word = (images, "shrunk") if factor < 1 else (small, "enlarged")
        for kind in FILTERS:
            yield f"{word} x {factor}", [resized(pixels, factor, kind) for pixels in many]
        yield f"{word} x {factor}, then JPEG", [as_jpeg(resized(pixels, factor, "lanczos")) for pixels in many]
    for kind in ("gaussian 0.6", "gaussian 1", "median 3x3", "non-local means", "total variation"):
        yield f"denoised: {kind}", [denoised(pixels, kind) for pixels in small]
        yield f"denoised: {kind}, then JPEG", [as_jpeg(denoised(pixels, kind)) for pixels in small]


def cost() -> float:
    """Measure the processor time of checking images over that of reading them, in one run."""
    folder = DATA / "polyu_train" / "noisy"
    times = [time.process_time()]
    for work in (lambda: [read_image(path) for path in list_images(folder)], lambda: check_images(folder)):
        work()
        times.append(time.process_time())
    return (times[2] - times[1]) / (times[1] - times[0])


def main() -> None:
    options = parser_of(__doc__, "data_check").parse_args()
    check_out(options.out, "data_check")
    found: dict[tuple[str, str], list[Any]] = {}
    for kind, right, images in folders():
        with tempfile.TemporaryDirectory() as folder:
            for index, pixels in enumerate(images):
                write_image(Image(pixels), Path(folder) / f"{index}.png")
            report = check_images(folder)
        codes = ",".join(finding.code for finding in report.refusals)
        note(f"{right}: {kind}: {codes or '-'}; stride {report.stride}")
        found.setdefault((kind, right), []).append(report)
    rows = []
    for (kind, right), reports in found.items():
        refused = sum(bool(report.refusals) for report in reports)
        doubtful = sum(bool(summary.signs) for report in reports for summary in report.summaries)
        total = sum(len(report.summaries) for report in reports)
        strides = sorted({report.stride for report in reports})
        rows.append(
            [kind, right, f"{refused} of {len(reports)}", f"{doubtful} of {total}", ", ".join(map(str, strides))]
        )
    header = ["folders of", "right", "refused", "images with a sign", "stride"]
    print(table(header, rows))
    ratio = cost()
    print(f"checking takes {ratio:.1f} times the processor time of reading")
    results = {"rows": [dict(zip(header, row, strict=True)) for row in rows], "cost_vs_reading": ratio}
    write_results(options.out, "data_check", results)


if __name__ == "__main__":
    run_benchmark(main)
