"""`edgedenoise demo`: the whole product in one go, on sample images or on one's own images.

Sample images are the free ones that scikit-image carries, with synthetic camera noise at about 20 dB; two of them are
held out of training. With one's own images there is no ground truth: some are held out, and quantized is
compared with float.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import DatasetError, UsageError
from edgedenoise.evaluation.report.page import compare_to_html
from edgedenoise.evaluation.report.tables import compare_table
from edgedenoise.exporting.build import build
from edgedenoise.extras import missing_package
from edgedenoise.files import write_bytes
from edgedenoise.imaging.files import list_images, read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.pairs import check_stems
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.evaluation.compare import CompareReport, Row

NOISY_DB = 20.0
TRAINING_PICTURES = ("coffee", "rocket", "stereo_motorcycle", "immunohistochemistry", "retina")
HELD_OUT_PICTURES = ("astronaut", "chelsea")
HELD_OUT_SIDE_PX = 1024
"""One's own held-out images are cut to this side, so that the demo's time does not depend on the camera."""

_MARKER = ".edgedenoise-demo"


@dataclass(frozen=True)
class Effort:
    """How much time a demo takes."""

    network: str
    steps: int
    calibration_crops: int
    repeats: int


FULL = Effort("cbsn-24x4", 500, 128, 10)
QUICK = Effort("cbsn-16x4", 60, 32, 5)

MIN_GAIN_DB = 4.0
MAX_GIVEN_BACK_DB = 0.5
"""What the demo promises on its sample images; it says whether it was kept."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured."""

    run: Path
    """The training run."""
    bundle: Path
    report_html: Path
    report_json: Path
    denoised: Path
    seconds: float
    float_gain_db: float | None
    """PSNR gained by the float variant on held-out images; None with one's own images."""
    int8_gives_back_db: dict[str, float]
    """Per INT8 variant, how much of that gain it loses; empty with one's own images."""
    comparison: CompareReport


def run_demo(
    out: Path, *, data: Path | None = None, quick: bool = False, seed: int = 0, progress: Progress = silent
) -> DemoResult:
    """Train, build, compare and report.

    Args:
        out: folder for everything; a folder that an earlier demo made is replaced.
        data: one's own noisy images, or None for sample images.
        quick: train for seconds only.
        seed: of noise, crops and training.
        progress: told stage by stage.

    Raises:
        UsageError: `out` holds something that no demo made.
        RuntimeUnavailableError: a package is missing; the hint installs it.
        DatasetError: `data` cannot be used.
    """
    import edgedenoise  # the public door: training needs torch, which is loaded only now

    start = time.monotonic()
    effort = QUICK if quick else FULL
    # What can be told at once to be wrong is told before an earlier demo is removed.
    _check_out(out, data)
    photographs = None if data is None else _listed(data)
    samples = _samples() if data is None else None
    _prepare(out)
    if photographs is not None:
        pictures = _own_pictures(out, photographs, progress)
    else:
        pictures = _sample_pictures(out, samples, seed, progress)
    config = edgedenoise.TrainConfig.named(
        effort.network,
        data=str(pictures.training),
        out=str(out / "run"),
        steps=effort.steps,
        learning_rate=2e-3,
        held_out=0,  # every image is needed, and minutes give no choice among checkpoints
        seed=seed,
    )
    edgedenoise.train(config, progress=progress)
    bundle = out / "demo.edge"
    build(out / "run", pictures.training, bundle, count=effort.calibration_crops, seed=seed, progress=progress)
    html = out / "report.html"
    report = compare_to_html(
        bundle,
        pictures.held_out,
        pictures.clean,
        html,
        keep=out / "denoised",
        repeats=effort.repeats,
        progress=progress,
    )
    gain, given_back = _gains(report)
    return DemoResult(
        run=out / "run",
        bundle=bundle,
        report_html=html,
        report_json=html.with_suffix(".json"),
        denoised=out / "denoised",
        seconds=time.monotonic() - start,
        float_gain_db=gain,
        int8_gives_back_db=given_back,
        comparison=report,
    )


def demo_text(result: DemoResult) -> str:
    """Say what came out, where to look, and what to type next."""
    lines = [compare_table(result.comparison), ""]
    if result.float_gain_db is not None:
        kept = "as promised" if result.float_gain_db >= MIN_GAIN_DB else "LESS THAN PROMISED"
        lines.append(
            f"float gains {result.float_gain_db:.2f} dB over the noisy input on held-out images"
            f" ({kept}: at least {MIN_GAIN_DB} dB)"
        )
        for name, db in result.int8_gives_back_db.items():
            kept = "as promised" if db <= MAX_GIVEN_BACK_DB else "MORE THAN PROMISED"
            lines.append(f"{name} gives back {db:.2f} dB of it ({kept}: at most {MAX_GIVEN_BACK_DB} dB)")
    lines += [
        f"took {result.seconds:.0f} s",
        "",
        "look at:",
        f"  {result.report_html}  before and after, and the numbers",
        f"  {result.denoised}  the denoised images of every variant",
        f"  {result.bundle}  the bundle: copy it to the device",
        "",
        "next, with your own noisy images (from one camera, not resized; 20 or more are better):",
        "  edgedenoise train --data PHOTOS --out RUN --steps 2000",
        "  edgedenoise build RUN --data PHOTOS -o MINE.edge",
        "  edgedenoise denoise PHOTOS -o DENOISED -m MINE.edge",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Pictures:
    training: Path
    held_out: Path
    clean: Path | None
    """Ground truth of the held-out images."""


def _check_out(out: Path, data: Path | None) -> None:
    if out.is_file():
        raise UsageError(f"{out} is a file; the demo wants a folder", hint="choose another place with --out")
    if out.exists() and any(out.iterdir()) and not (out / _MARKER).is_file():
        raise UsageError(
            f"{out} is not empty and was not made by a demo, so nothing was changed",
            hint="choose another folder with --out",
        )
    if data is not None and data.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"the images {data} lie in {out}, which the demo would empty; choose another --out")


def _prepare(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    write_bytes(out / _MARKER, b"")


def _samples() -> Any:
    """Return scikit-image's `data` module.

    Raises:
        RuntimeUnavailableError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    return skimage.data


def _sample_pictures(out: Path, samples: Any, seed: int, progress: Progress) -> _Pictures:
    pictures = _Pictures(out / "pictures" / "training", out / "pictures" / "noisy", out / "pictures" / "clean")
    names = [*TRAINING_PICTURES, *HELD_OUT_PICTURES]
    for index, name in enumerate(names):
        progress("pictures", index, len(names), name)
        found = getattr(samples, name)()
        picture = found[0] if isinstance(found, tuple) else found  # a stereo pair comes with its disparity
        clean: NDArray[np.uint8] = np.ascontiguousarray(picture[..., :3], np.uint8)
        # Each image its own noise: a seed per image, so that one more image changes none of the others.
        rng = np.random.default_rng([seed, index])
        parameters = parameters_for_psnr(clean, NOISY_DB, rng)
        noisy = Image(from_unit(add_camera_noise(clean, parameters, rng), np.uint8))
        held_out = name in HELD_OUT_PICTURES
        write_image(noisy, (pictures.held_out if held_out else pictures.training) / f"{name}.png")
        if held_out and pictures.clean is not None:
            write_image(Image(clean), pictures.clean / f"{name}.png")
    progress("pictures", len(names), len(names))
    return pictures


def _listed(data: Path) -> list[Path]:
    """Return one's own images, after making sure that names made from theirs do not meet."""
    photographs = list_images(data)
    if not photographs:
        raise DatasetError(f"{data} holds no images")
    check_stems(photographs)
    return photographs


def _own_pictures(out: Path, photographs: list[Path], progress: Progress) -> _Pictures:
    count = min(4, max(1, len(photographs) // 5))
    held_out = photographs[:: max(1, len(photographs) // count)][:count]
    # With very few images every one is needed for training, and the held-out ones are trained on as well.
    training = photographs if len(photographs) < 5 else [p for p in photographs if p not in held_out]
    pictures = _Pictures(out / "pictures" / "training", out / "pictures" / "noisy", None)
    pictures.training.mkdir(parents=True)
    for index, path in enumerate(held_out):
        progress("pictures", index, len(held_out), path.name)
        photo = read_image(path)
        top, left = (max(0, side - HELD_OUT_SIDE_PX) // 2 for side in (photo.height, photo.width))
        write_image(photo.crop(top, left, HELD_OUT_SIDE_PX), pictures.held_out / f"{path.stem}.png")
    for path in training:
        (pictures.training / path.name).symlink_to(path.resolve())
    progress("pictures", len(held_out), len(held_out))
    return pictures


def _gains(report: CompareReport) -> tuple[float | None, dict[str, float]]:
    """Return the float gain in dB and what each INT8 variant loses against the float of the same runtime."""
    if report.noisy is None:
        return None, {}
    floats = {row.measurement.runtime: row for row in report.rows if row.measurement.precision == "fp32"}
    reference = next((row for row in report.rows if row.measurement.precision == "fp32"), None)
    if reference is None or reference.quality is None:
        return None, {}
    given_back = {
        row.measurement.variant: _psnr(floats[row.measurement.runtime]) - _psnr(row)
        for row in report.rows
        if row.measurement.precision == "int8" and row.quality is not None and row.measurement.runtime in floats
    }
    return reference.quality.psnr_db - report.noisy.psnr_db, given_back


def _psnr(row: Row) -> float:
    return float("nan") if row.quality is None else row.quality.psnr_db
