"""A network that takes the noise level, whose INT8 is recommended for images with enough noise alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Limits
from edgedenoise.denoiser import load_variant
from edgedenoise.evaluation.checks import CheckOptions
from edgedenoise.evaluation.compare import write_timed
from edgedenoise.evaluation.report.summary import summarize_run
from edgedenoise.evaluation.report.text_tables import bench_table, compare_table
from edgedenoise.evaluation.results import NOISE
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metrics import psnr

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = "edge-level"
INT8 = "onnx-int8-u8s7"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images: one with little noise, and one with enough of it."""
    root = tmp_path_factory.mktemp("images")
    clean = np.linspace(60, 180, 96)[None, :, None].repeat(96, axis=0).repeat(3, axis=2)
    for name, sigma_lsb in (("weak", 1.5), ("strong", 15)):
        noisy = clean + np.random.default_rng(0).normal(0, sigma_lsb, clean.shape)
        write_image(Image(noisy.round().astype(np.uint8)), root / "noisy" / f"{name}.png")
        write_image(Image(clean.round().astype(np.uint8)), root / "clean" / f"{name}.png")
        write_image(Image(clean.round().astype(np.uint8)), root / "weak" / f"{name}.png")
    return root


def test_the_loss_is_over_images_with_enough_noise(images: Path) -> None:
    def drop(folder: str) -> tuple[str, str]:
        options = CheckOptions(Limits(max_drop_db=5), images / folder, images / "clean", threads=1)
        report = edgedenoise.check_limits(BUNDLE, options)
        (found,) = [one for one in report.outcomes if one.name == "max_drop_db"]
        return found.status, found.message

    least = Bundle.open(BUNDLE).variant(INT8).least_noise_lsb
    assert least > 0
    status, message = drop("noisy")
    assert status == "passed"
    assert f"in the mean of 1 image with a noise of {least:g} LSB or more" in message
    assert "strong.png" in message
    status, message = drop("weak")
    assert status == "not run"
    assert message.startswith(f"no image has a noise of {least:g} LSB or more")


def test_a_comparison_records_the_noise_and_times_the_network(images: Path) -> None:
    report = edgedenoise.compare(BUNDLE, images / "noisy", images / "clean", repeats=1, threads=1)
    levels = {image.name: image.measures[NOISE] for image in report.run.images}
    integers = report.run.variant(INT8)
    assert integers is not None
    assert levels["weak.png"] < integers.least_noise_lsb <= levels["strong.png"]


def test_a_comparison_shows_what_denoise_gives_without_options(images: Path) -> None:
    """Of each image the result of the variant that `denoise` takes, which is compared with a run of `denoise`."""
    report = edgedenoise.compare(BUNDLE, images / "noisy", images / "clean", repeats=1, threads=1)
    taken = {image.name: image.auto for image in report.run.images}
    psnrs = []
    with edgedenoise.load(BUNDLE, threads=1) as denoiser:
        for name in ("strong.png", "weak.png"):
            noisy, clean = (read_image(images / folder / name).pixels for folder in ("noisy", "clean"))
            psnrs.append(psnr(denoiser(noisy), clean))
            assert taken[name] == denoiser.last_variant.name
    auto = summarize_run(report.run).auto
    assert auto is not None
    assert auto.means["psnr_db"] == pytest.approx(np.mean(psnrs), abs=1e-9)
    lines = compare_table(report).splitlines()
    (row,) = [line for line in lines if line.startswith("auto ")]
    assert row.split()[1] == f"{np.mean(psnrs):.2f}"
    if len(auto.counts) > 1:  # on machines where INT8 is chosen
        assert auto.counts == {INT8: 1, "onnx-fp32": 1}
    assert f"auto, as denoise runs without options: {taken['strong.png']} for 1 image" in "\n".join(lines)


def test_an_image_without_noise_is_not_what_is_timed(images: Path, tmp_path: Path) -> None:
    """It would be returned unchanged, and the time of a copy recorded."""
    clean = images / "clean" / "weak.png"
    for name, same in ((BUNDLE, False), ("edge", True)):
        path, shape_px = write_timed(clean, tmp_path, Bundle.open(name))
        assert shape_px == (96, 96)
        timed = read_image(path)
        assert np.array_equal(timed.pixels, read_image(clean).pixels) == same
    path, _ = write_timed(clean, tmp_path, Bundle.open(BUNDLE))
    with load_variant(Bundle.open(BUNDLE), INT8, threads=1) as opened:
        given = read_image(path).pixels
        assert not np.array_equal(opened(given), given)


def test_the_table_of_times_names_the_images_that_run_in_float() -> None:
    report = edgedenoise.bench(BUNDLE, shape=32, repeats=1, threads=1)
    table = bench_table(report.variants)
    assert f"{INT8}: denoise runs images with a noise below" in table
