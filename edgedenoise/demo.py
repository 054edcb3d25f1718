"""Run the whole product once: train, build, compare and report, on sample images or on the user's own.

The sample images are free ones from scikit-image with synthetic camera noise at about 20 dB; two of them are held out
of training. The user's own images have no ground truth: some are held out, and INT8 is compared with float.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import UsageError
from edgedenoise.evaluation.compare import loss_to_float_db
from edgedenoise.evaluation.report.page import compare_to_html
from edgedenoise.evaluation.report.text_tables import compare_table
from edgedenoise.exporting.build import SEARCH_SECONDS, build
from edgedenoise.extras import missing_package
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.pairs import list_comparable
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.printable import one_line
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.evaluation.compare import CompareReport

NOISY_DB = 20.0
"""PSNR of the noisy sample images."""
TRAINING_SAMPLES = ("coffee", "rocket", "stereo_motorcycle", "immunohistochemistry", "retina")
"""Names of scikit-image's images that are trained on."""
HELD_OUT_SAMPLES = ("astronaut", "chelsea")
"""Names of scikit-image's images that are compared on."""
HELD_OUT_SIDE_PX = 1024
"""Side to which the user's held-out images are cropped, so that the demo's time does not depend on the camera."""

_MARKER = ".edgedenoise-demo"
_ENOUGH_TO_HOLD_OUT = 5


@dataclass(frozen=True)
class Effort:
    """How much time a demo takes."""

    network: str
    """Name of the network and of its preset."""
    steps: int
    """Training steps."""
    calibration_crops: int
    """Crops that activation ranges are measured on."""
    repeats: int
    """Timed runs of each variant."""
    search_seconds: float
    """Longest search for layers that are kept in float."""


FULL = Effort("cbsn-24x4", 500, 128, 10, SEARCH_SECONDS)
QUICK = Effort("cbsn-16x4", 60, 32, 5, 10.0)

MIN_GAIN_DB = 4.0
"""Gain of the float variant that the demo promises on its sample images."""
MAX_LOSS_DB = 0.5
"""Loss of an INT8 variant against float that it promises at most."""


@dataclass(frozen=True)
class DemoResult:
    """Files and measurements of a demo."""

    run: Path
    """The training run."""
    bundle: Path
    """The bundle, with all variants."""
    report_html: Path
    """Page with images before and after, and all measurements."""
    report_json: Path
    """The same measurements as JSON."""
    denoised: Path
    """Folder with the denoised images of every variant."""
    seconds: float
    """Time of the whole demo."""
    float_gain_db: float | None
    """PSNR gained by the float variant on held-out images; None without ground truth."""
    int8_loss_db: dict[str, float]
    """Loss of each INT8 variant against float, in dB; empty without ground truth."""
    comparison: CompareReport
    """Measurements of every variant."""


def run_demo(
    out: Path, *, data: Path | None = None, quick: bool = False, seed: int = 0, progress: Progress = silent
) -> DemoResult:
    """Run the demo: train, build, compare and report.

    Args:
        out: folder for everything; a folder that an earlier demo made is replaced.
        data: folder of the user's noisy images, or None for sample images.
        quick: train for seconds only.
        seed: seed of noise, crops and training.
        progress: called for every stage.

    Returns:
        The files that were made, and what was measured.

    Raises:
        UsageError: `out` holds something that no demo made.
        RuntimeUnavailableError: a package is missing; the hint installs it.
        DatasetError: `data` cannot be used.

    Example:
        result = run_demo(Path("build/demo"), quick=True)
        print(demo_text(result))
    """
    import edgedenoise  # the public package loads torch only when training starts

    start = time.monotonic()
    effort = QUICK if quick else FULL
    # Everything that can be refused at once is refused before an earlier demo is removed.
    _check_out(out, data)
    own = None if data is None else list_comparable(data)
    samples = _samples() if data is None else None
    _prepare(out)
    images = _sample_images(out, samples, seed, progress) if own is None else _own_images(out, own, progress)
    config = edgedenoise.TrainConfig.named(
        effort.network,
        data=str(images.training),
        out=str(out / "run"),
        steps=effort.steps,
        learning_rate=2e-3,
        held_out=0,  # every image is needed, and a run of minutes has no best checkpoint to choose
        seed=seed,
    )
    edgedenoise.train(config, progress=progress)
    bundle = out / "demo.edge"
    build(
        out / "run",
        images.training,
        bundle,
        count=effort.calibration_crops,
        seed=seed,
        targets=_targets(),
        search_seconds=effort.search_seconds,
        progress=progress,
    )
    html = out / "report.html"
    report = compare_to_html(
        bundle,
        images.held_out,
        images.clean,
        html,
        keep=out / "denoised",
        repeats=effort.repeats,
        progress=progress,
    )
    gain, losses = _gains(report)
    return DemoResult(
        run=out / "run",
        bundle=bundle,
        report_html=html,
        report_json=html.with_suffix(".json"),
        denoised=out / "denoised",
        seconds=time.monotonic() - start,
        float_gain_db=gain,
        int8_loss_db=losses,
        comparison=report,
    )


def _targets() -> tuple[str, ...]:
    """Return the backends that can build and run here: the report compares what was measured."""
    return tuple(one.name for one in registry.values() if one.can_build() and one.probe().available)


def demo_text(result: DemoResult) -> str:
    """Format the measurements of a demo, where its files are, and the commands to type next."""
    lines = [compare_table(result.comparison), ""]
    if result.float_gain_db is not None:
        kept = "as promised" if result.float_gain_db >= MIN_GAIN_DB else "LESS THAN PROMISED"
        lines.append(
            f"float gains {result.float_gain_db:.2f} dB over the noisy input on held-out images"
            f" ({kept}: at least {MIN_GAIN_DB} dB)"
        )
        for name, db in result.int8_loss_db.items():
            kept = "as promised" if db <= MAX_LOSS_DB else "MORE THAN PROMISED"
            lines.append(f"{name} loses {db:.2f} dB against float ({kept}: at most {MAX_LOSS_DB} dB)")
    lines += [
        f"took {result.seconds:.0f} s",
        "",
        "results:",
        f"  {one_line(result.report_html)}  images before and after, and all measurements",
        f"  {one_line(result.denoised)}  the denoised images of every variant",
        f"  {one_line(result.bundle)}  the bundle: copy it to the device",
        "",
        "next, with your own noisy images (from one camera, at original size; 20 or more are better):",
        "  edgedenoise train --data noisy --out run --steps 2000",
        "  edgedenoise build run --data noisy -o my.edge",
        "  edgedenoise denoise noisy -o denoised -m my.edge",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Images:
    """Folders of the demo's images."""

    training: Path
    held_out: Path
    clean: Path | None
    """Ground truth of `held_out`; None when there is none."""


def _check_out(out: Path, data: Path | None) -> None:
    """Check that nothing but an earlier demo would be replaced in `out`."""
    if out.is_file():
        raise UsageError(f"{out} is a file; expected a folder", hint="Choose another folder with --out.")
    if out.exists() and any(out.iterdir()) and not (out / _MARKER).is_file():
        raise UsageError(
            f"{out} is not empty and was not made by a demo, so nothing was changed",
            hint="Choose another folder with --out.",
        )
    if data is not None and data.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"the images {data} lie in {out}, which the demo would empty", hint="Choose another folder with --out."
        )


def _prepare(out: Path) -> None:
    """Empty the folder and mark it as a demo's."""
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


def _sample_images(out: Path, samples: Any, seed: int, progress: Progress) -> _Images:
    """Write the sample images with noise, and the held-out ones without."""
    images = _Images(out / "images" / "training", out / "images" / "noisy", out / "images" / "clean")
    names = [*TRAINING_SAMPLES, *HELD_OUT_SAMPLES]
    for index, name in enumerate(names):
        progress("images", index, len(names), name)
        sample = getattr(samples, name)()
        pixels = sample[0] if isinstance(sample, tuple) else sample  # a stereo pair comes with its disparity
        clean: NDArray[np.uint8] = np.ascontiguousarray(pixels[..., :3], np.uint8)
        # One seed per image, so that an additional image changes none of the others.
        rng = np.random.default_rng([seed, index])
        parameters = parameters_for_psnr(clean, NOISY_DB, rng)
        noisy = Image(from_unit(add_camera_noise(clean, parameters, rng), np.uint8))
        held_out = name in HELD_OUT_SAMPLES
        write_image(noisy, (images.held_out if held_out else images.training) / f"{name}.png")
        if held_out and images.clean is not None:
            write_image(Image(clean), images.clean / f"{name}.png")
    progress("images", len(names), len(names))
    return images


def _own_images(out: Path, paths: list[Path], progress: Progress) -> _Images:
    """Write crops of the held-out images of the user, and place the others for training."""
    count = min(4, max(1, len(paths) // 5))
    held_out = paths[:: max(1, len(paths) // count)][:count]
    # With very few images all are needed for training, and the held-out ones are trained on too.
    training = paths if len(paths) < _ENOUGH_TO_HOLD_OUT else [path for path in paths if path not in held_out]
    images = _Images(out / "images" / "training", out / "images" / "noisy", None)
    images.training.mkdir(parents=True)
    for index, path in enumerate(held_out):
        progress("images", index, len(held_out), path.name)
        image = read_image(path)
        top, left = (max(0, side - HELD_OUT_SIDE_PX) // 2 for side in (image.height, image.width))
        write_image(image.crop(top, left, HELD_OUT_SIDE_PX), images.held_out / f"{path.stem}.png")
    for path in training:
        _place(path, images.training / path.name)
    progress("images", len(held_out), len(held_out))
    return images


def _place(path: Path, target: Path) -> None:
    """Link a file, or copy it where links are not allowed: Windows wants a privilege for them."""
    try:
        target.symlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, target)


def _gains(report: CompareReport) -> tuple[float | None, dict[str, float]]:
    """Return the float gain in dB, and what each INT8 variant loses against the float variant of its runtime."""
    if report.noisy is None:
        return None, {}
    reference = next((row for row in report.rows if row.measurement.precision == "fp32"), None)
    if reference is None or reference.quality is None:
        return None, {}
    return reference.quality.psnr_db - report.noisy.psnr_db, loss_to_float_db(report)
