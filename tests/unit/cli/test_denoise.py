"""`edgedenoise denoise` over files and folders: what was done, what was left out and why, on one line each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cpus import VNNI, pretend
from PIL import Image as PILImage

from edgedenoise import errors
from edgedenoise.cli.denoise import left_out_lines
from edgedenoise.cli.denoising import memory_bytes
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.folders import LeftOut
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from command_line import Run

    Contents = Callable[[Path], dict[str, bytes]]

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")


def test_what_is_left_out_is_named_and_counted(run: Run, photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "sub/b.png", "scan.xyz"):
        (photo.parent / name).parent.mkdir(exist_ok=True)
        (photo.parent / name).touch()
    done = run("denoise", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle)
    assert done.code == 0
    assert done.out.startswith("denoised 1 of 1 and left out 3 with onnx")
    lines = done.err.splitlines()
    assert f"left out 1 (a sub-folder: add -r (recursive=True) to read it): {photo.parent / 'sub'}" in lines
    assert f"left out 1 (no image format has the extension .txt): {photo.parent / 'notes.txt'}" in lines
    json = run("denoise", photo.parent, "-o", tmp_path / "new", "-m", committed_bundle, "--json", "-q").records()[-1]
    assert json["counts"] == {"denoised": 1, "failed": 0, "left_out": 3}
    assert {Path(entry["path"]).name for entry in json["left_out"]} == {"notes.txt", "scan.xyz", "sub"}


def test_many_files_of_one_kind_are_counted_and_a_few_named() -> None:
    names = [LeftOut(Path(f"{number}.txt"), "no image") for number in range(8)]
    (line,) = left_out_lines(names)
    assert line == "left out 8 (no image): 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more (all with --json)"


def test_the_tree_is_kept_with_r(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    write_image(read_image(photo), photo.parent / "deep" / "er" / "b.PNG")
    done = run("denoise", "-r", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle)
    assert done.code == 0
    assert sorted(contents(tmp_path / "out")) == ["deep/er/b.PNG", "photo.png"]


def test_an_existing_output_is_kept_unless_an_option_replaces_it(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    arguments: tuple[Any, ...] = ("denoise", photo, "-o", out, "-m", committed_bundle)
    done = run(*arguments)
    assert (done.code, out.read_bytes()) == (errors.OutputError.exit_code, b"old")
    assert done.err.splitlines()[-2] == f"error: {out} exists already and was not replaced"
    assert run(*arguments, "--skip-existing").code == 0
    assert out.read_bytes() == b"old"
    assert run(*arguments, "--overwrite").code == 0
    assert read_image(out).width == 50
    both = run(*arguments, "--overwrite", "--skip-existing")
    assert both.code == errors.UsageError.exit_code
    assert "exclude each other" in both.err


def test_existing_outputs_are_one_line_each_and_one_hint_with_the_options_of_the_user(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    for name in ("b.png", "c.png"):
        write_image(read_image(photo), photo.parent / name)
    arguments = ("denoise", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle, "--strength", "0.5")
    assert run(*arguments).code == 0
    done = run(*arguments, "-q")
    existing = [f"error: {tmp_path / 'out' / name} exists already" for name in ("b.png", "c.png", "photo.png")]
    lines = done.err.splitlines()
    assert [line.partition(" and was")[0] for line in lines[:-1]] == existing
    given = f"{photo.parent} -o {tmp_path / 'out'} --model {committed_bundle} --strength 0.5 --overwrite"
    assert lines[-1] == f"Replace existing outputs: edgedenoise denoise {given}"
    assert run(*arguments, "--json").records()[-1]["variant"] is None


@pytest.mark.parametrize("size", ["150GB", "150 gb", "150000M", "150000000000"])
def test_memory_is_limited_in_the_units_that_people_write(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, size: str
) -> None:
    assert memory_bytes(size) == 150_000_000_000
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle, "--max-memory", size)
    assert done.code == 0, done.err


def test_memory_of_no_size_is_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "--max-memory", "much")
    assert done.code == errors.UsageError.exit_code
    assert "--max-memory is not accepted: expected a size such as 1.5GB or 800MB, got 'much'" in done.err


def test_an_image_above_max_pixels_is_refused(run: Run, photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle, "--max-pixels", "1999")
    assert done.code == errors.ImageError.exit_code
    assert "expected at most 1999 pixels, got 50 x 40 = 2000" in done.err
    assert "--max-pixels 2000" in done.err


@POSIX
@pytest.mark.parametrize("as_json", [False, True])
def test_names_write_no_escapes_and_no_lines(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, as_json: bool
) -> None:
    forged = "x\ndenoised 9 of 9 with\x1b[2J\x9b31m\u202e"
    folder = photo.parent.rename(tmp_path / f"in{forged}")
    (folder / f"bad{forged}.png").write_text("no image")
    (folder / f"left{forged}.txt").touch()
    (folder / f"sub{forged}").mkdir()
    arguments = ["denoise", folder, "-o", tmp_path / f"out{forged}", "-m", committed_bundle, *["--json"] * as_json]
    for more in (["-v"], ["-o", tmp_path / "no" / "such" / f"out{forged}.png"], ["-m", f"nowhere{forged}"]):
        done = run(*arguments, *more)
        shown = done.out + done.err
        assert not any(mark in shown for mark in "\x1b\x9b\u202e")
        assert not [line for line in shown.splitlines() if line.startswith("denoised 9")]
        if as_json:
            assert done.records()


@POSIX
def test_the_folder_of_a_training_check_writes_no_lines(run: Run, photo: Path, tmp_path: Path) -> None:
    folder = photo.parent.rename(tmp_path / "in\nall is well\x1b[2J")
    done = run("doctor", "--data", folder)
    assert "\x1b" not in done.out + done.err
    assert not [line for line in (done.out + done.err).splitlines() if line.startswith("all is well")]


def test_no_warning_of_a_library_is_written_when_quiet(committed_bundle: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    PILImage.fromarray(rows).save(tmp_path / "in.tif", compression="tiff_adobe_deflate")
    data = bytearray((tmp_path / "in.tif").read_bytes())
    data[2000:2400] = bytes(400)
    (tmp_path / "in.tif").write_bytes(data)
    command = [sys.executable, "-m", "edgedenoise", "denoise", "in.tif", "-o", "out.tif", "-m", str(committed_bundle)]
    loud, quiet = (
        subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path, check=False).stderr
        for more in ([], ["-q"])
    )
    assert "ZIPDecode" in loud  # libtiff, past Python
    assert quiet == "error: in.tif is a damaged TIFF file: decoder error -2\nCopy the file again from its source.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_behind_the_standard_output_is_reported(
    photo: Path, committed_bundle: Path, tmp_path: Path, as_json: bool
) -> None:
    command = [sys.executable, "-m", "edgedenoise", "denoise", str(photo), "-o", str(tmp_path / "out.png")]
    command += ["-m", str(committed_bundle), *(["--json"] if as_json else [])]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == errors.OutputError.exit_code
    assert "error: the standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert read_image(tmp_path / "out.png").width == 50


def test_float_that_runs_although_there_is_int8_has_a_line_and_a_reason_in_json(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    """The INT8 variant of this bundle is not recommended, so that `auto` takes float."""
    done = run("denoise", photo, "-o", tmp_path / "a.png", "-m", committed_bundle)
    assert "onnx-fp32 runs in float; onnx-int8-u8s7 is not used: not recommended: 0.36 dB lost" in done.err
    assert "chose onnx-fp32" not in done.err
    verbose = run("denoise", photo, "-o", tmp_path / "b.png", "-m", committed_bundle, "-v")
    assert "chose onnx-fp32; passed over onnx-int8-u8s7: not recommended" in verbose.err
    recorded = run("denoise", photo, "-o", tmp_path / "c.png", "-m", committed_bundle, "--json", "-q")
    found = json.loads(recorded.out.splitlines()[-1])
    assert found["variant"] == "onnx-fp32"
    (passed,) = found["passed_over"]
    assert (passed["variant"], passed["precision"]) == ("onnx-int8-u8s7", "int8")
    assert found["float_instead_of"] == [passed]
    asked = run("denoise", photo, "-o", tmp_path / "d.png", "-m", committed_bundle, "--precision", "fp32")
    assert "runs in float" not in asked.err


def test_a_variant_that_ran_is_not_passed_over_in_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, VNNI)
    rng = np.random.default_rng(0)
    write_image(Image(rng.integers(0, 65535, (32, 32, 1), np.uint16)), tmp_path / "deep" / "a.png")

    def passed_over(inputs: Path, out: str) -> list[tuple[str, str]]:
        done = run("denoise", inputs, "-o", tmp_path / out, "-m", "edge-tiny", "--json", "-q")
        found = json.loads(done.out.splitlines()[-1])["passed_over"]
        return [(one["variant"], one["reason"]) for one in found]

    in_float = ("onnx-int8-u8s7", "images of more than 8 bits run in float")
    assert passed_over(tmp_path / "deep", "a") == [in_float]
    write_image(Image(rng.integers(0, 255, (32, 32, 1), np.uint8)), tmp_path / "deep" / "b.png")
    assert passed_over(tmp_path / "deep", "b") == []


def test_images_that_run_in_float_have_a_line_and_a_reason_in_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 of edge-level is for images with enough noise."""
    pretend(monkeypatch, VNNI)
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for name, sigma_lsb in (("strong", 15), ("weak", 1.5)):
        pixels = np.clip(rng.normal(128, sigma_lsb, (64, 64, 3)), 0, 255).round().astype(np.uint8)
        write_image(Image(pixels), folder / f"{name}.png")
    done = run("denoise", folder, "-o", tmp_path / "a", "-m", "edge-level")
    (line,) = [line for line in done.err.splitlines() if "in float" in line]
    assert line.startswith("onnx-fp32 ran 1 of 2 in float: images with less noise than")
    recorded = run("denoise", folder, "-o", tmp_path / "b", "-m", "edge-level", "--json", "-q")
    files = [json.loads(line) for line in recorded.out.splitlines()[:-1]]
    reasons = {(file["variant"], file["float_reason"] is not None) for file in files}
    assert reasons == {("onnx-int8-u8s7", False), ("onnx-fp32", True)}
    asked = run("denoise", folder, "-o", tmp_path / "c", "-m", "edge-level", "--precision", "int8")
    assert "in float" not in asked.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-", "-o", "-", "-r"), "-r, --skip-existing and --engine are for folders"),
        (("a.npy", "-o", "b.npy", "--skip-existing"), "-r, --skip-existing and --engine are for folders"),
        (("photo.png", "-o", "-", "--json"), "--json and -o - both need the standard output"),
        (("photo.png", "-o", "out.png", "--format", "png"), "expected -o -"),
    ],
)
def test_options_that_streams_exclude_are_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    done = run("denoise", *words)
    assert done.code == errors.UsageError.exit_code
    assert message in done.out + done.err
