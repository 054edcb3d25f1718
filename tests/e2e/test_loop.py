"""The whole loop as a user types it: noisy images in, a quantized denoiser out, compared."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL.Image
import pytest

for _package in ("torch", "onnx", "onnxscript", "openvino", "jinja2", "skimage"):
    pytest.importorskip(_package, reason=f"needs {_package}: pip install 'edgedenoise[all]'")

from edgedenoise.evaluation.result_files import read_results
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from pathlib import Path

VARIANTS = {"onnx-fp32", "onnx-int8-u8s7", "openvino-fp32", "openvino-int8-u8s7"}


def edgedenoise(*arguments: object) -> dict:
    """Run a command with --json and return what it wrote, of `denoise` the summary; all of it must be JSON."""
    command = [sys.executable, "-m", "edgedenoise", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-3000:]}"
    if arguments[0] == "denoise":
        return [json.loads(line) for line in done.stdout.splitlines()][-1]
    return json.loads(done.stdout)


class Comparison(NamedTuple):
    report: dict
    """What the command wrote."""
    page: Path
    """Report as HTML, beside the images."""


def decoded_webp(data: str) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """noisy/ and clean/ of four small images."""
    root = tmp_path_factory.mktemp("loop")
    y, x = np.mgrid[0:120, 0:144] / 144
    for seed in range(4):
        rng = np.random.default_rng(seed)
        clean = 0.5 + 0.4 * np.sin(rng.uniform(2, 9, 3) * x[..., None] + rng.uniform(2, 9, 3) * y[..., None])
        noisy = add_camera_noise(clean, parameters_for_psnr(clean, 20, rng), rng)
        write_image(Image(from_unit(clean, np.uint8)), root / "clean" / f"{seed}.png")
        write_image(Image(from_unit(noisy, np.uint8)), root / "noisy" / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    data, run, out = folder / "noisy", folder / "run", folder / "mine.edge"
    edgedenoise("train", "--data", data, "--out", run, "--network", "cbsn-8x1", "--steps", 60, "--patch", 60,
                "--set", "first_weights=local-mean", "--set", "statistics=photo")  # fmt: skip
    built = edgedenoise("build", run, "--data", data, "-o", out, "--count", 8, "--target", "openvino",
                        "--search-time", 5)  # fmt: skip
    assert {check["status"] for check in built["verified"]["variants"]} == {"passed"}
    return out


def test_the_bundle_holds_every_variant_and_they_prove_themselves(bundle: Path) -> None:
    report = edgedenoise("verify", bundle)
    assert {check["variant"] for check in report["variants"]} == VARIANTS
    assert {check["status"] for check in report["variants"]} == {"passed"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_photographs_are_denoised_by_each(bundle: Path, folder: Path, runtime: str, precision: str) -> None:
    out = folder / f"out-{runtime}-{precision}"
    report = edgedenoise(
        "denoise", folder / "noisy", "-o", out, "-m", bundle, "--runtime", runtime, "--precision", precision
    )
    assert report["effective"]["runtime"] == runtime
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    assert read_image(out / "0.png").pixels.shape == (120, 144, 3)


@pytest.fixture(scope="module")
def comparison(bundle: Path, folder: Path) -> Comparison:
    page = folder / "report.html"
    report = edgedenoise(
        "compare", bundle, "--noisy", folder / "noisy", "--clean", folder / "clean", "-o", page, "--repeats", 3
    )
    return Comparison(report, page)


def test_the_comparison_has_a_row_per_variant_with_quality_fidelity_and_speed(comparison: Comparison) -> None:
    report, html = comparison
    assert {row["measurement"]["variant"] for row in report["rows"]} == VARIANTS
    noisy = report["noisy"]["psnr_db"]
    for row in report["rows"]:
        assert row["quality"]["psnr_db"] > noisy + 2  # even sixty steps of a tiny network denoise
        assert row["finite"]
        latency = row["measurement"]["latency"]
        assert len(latency["samples_ms_per_mp"]) == 3
        assert min(latency["samples_ms_per_mp"]) <= latency["p50_ms_per_mp"] <= max(latency["samples_ms_per_mp"])
        assert latency["p99_ms_per_mp"] is None, "three rounds have no such percentile"
        assert len(row["measurement"]["network"]["samples_ms_per_mp"]) == 3
        assert row["measurement"]["load_ms"] > 0
        assert row["measurement"]["size_bytes"] > 0
        if row["measurement"]["precision"] == "int8":
            assert row["fidelity"]["psnr_db"] > 30
            assert row["measurement"]["speed_vs_float"] > 0
    (run,) = read_results(html.with_suffix(".json")).runs
    assert {variant.name for variant in run.variants} == VARIANTS
    assert len(run.images) == 4


def test_the_report_shows_every_version_of_a_crop_and_a_row_for_every_image(comparison: Comparison) -> None:
    page = comparison.page.read_text(encoding="utf-8")
    shown = re.findall(r'<img src="data:image/webp;base64,([^"]+)"[^>]* alt="([^,]+), ([^:]+): ([^"]+)">', page)
    assert page.count("data:image/webp;base64,") == len(shown)
    versions = {"noisy input", *VARIANTS, "ground truth"}
    crops: dict[str, list[tuple[str, str, str]]] = {}
    for data, title, image, label in shown:
        crops.setdefault(title, []).append((data, image, label))
    assert set(crops) == {"Worst INT8 error", "Strongest noise", "Finest detail"}
    for title, crop in crops.items():
        assert sorted(label for _, _, label in crop) == sorted(versions), title
        assert len({image for _, image, _ in crop}) == 1, title
        pixels = {label: decoded_webp(data) for data, _, label in crop}
        folder, name = comparison.page.parent, crop[0][1]
        # An image of 144x120 is smaller than a crop, which therefore holds all of it, without loss.
        np.testing.assert_array_equal(pixels["noisy input"], read_image(folder / "noisy" / name).pixels)
        np.testing.assert_array_equal(pixels["ground truth"], read_image(folder / "clean" / name).pixels)
        assert len({pixels[label].tobytes() for label in versions - VARIANTS | {"onnx-fp32", "onnx-int8-u8s7"}}) == 4
    assert len({crop[0][1] for crop in crops.values()}) == 3, "crops that overlap show the same place twice"
    rows = re.findall(r'<tr data-image="([^"]+)" data-variant="([^"]+)"', page)
    assert sorted(rows) == sorted((f"{index}.png", variant) for index in range(4) for variant in VARIANTS)


def test_a_resumed_run_builds_like_any_other(bundle: Path, folder: Path) -> None:
    run = folder / "run"
    result = edgedenoise("train", "--out", run, "--steps", 62, "--resume")  # the rest it knows
    assert result["steps"] == 62
    assert edgedenoise("export", run, "-o", folder / "again.edge")["network"]["name"] == "cbsn-8x1"


BLOCKED = ("coremltools", "imagecodecs", "psutil", "tensorboard", "tensorflow", "tensorrt_rtx")
"""Packages that the extra `demo` does not install."""

DEMO_ONLY = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
from edgedenoise.cli import main
main()
"""


def test_the_quick_demo_runs_from_nothing_to_a_report_with_the_packages_of_its_extra(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-c", DEMO_ONLY, "demo", "--quick", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert {row["measurement"]["variant"] for row in result["comparison"]["rows"]} == VARIANTS
    assert result["float_gain_db"] > 4
    assert max(result["int8_loss_db"].values()) < 0.5
    for name in ("report.html", "report.json", "demo.edge/manifest.json", "denoised/openvino-int8-u8s7/chelsea.png"):
        assert (out / name).is_file()


def test_the_demo_takes_ones_own_photographs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = edgedenoise("demo", "--quick", "--data", folder / "noisy", "--out", out)
    assert result["float_gain_db"] is None  # there is no ground truth
    assert {row["measurement"]["variant"] for row in result["comparison"]["rows"]} == VARIANTS
    assert all(row["finite"] for row in result["comparison"]["rows"])
    assert (out / "report.html").is_file()
    # Images that lie in the demo's own folder, or that are not there, cost nothing of what is.
    for data in (out / "images" / "noisy", tmp_path / "nowhere"):
        command = [sys.executable, "-m", "edgedenoise", "demo", "--quick", "--out", str(out), "--data", str(data)]
        assert subprocess.run(command, capture_output=True, check=False).returncode in (2, 11, 13)
        assert (out / "report.html").is_file()


def test_the_demo_leaves_other_folders_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "edgedenoise", "demo", "--quick", "--out", str(precious)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "was not made by a demo" in refused.stderr
    assert (precious / "thesis.txt").read_text() == "years of work"
