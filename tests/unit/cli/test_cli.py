"""The command line: results on stdout, everything else on stderr, one clear message and its own code per error."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Done, Run
from manifests import rewrite_manifest
from rich.progress import Task, TaskID

from edgedenoise import errors
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.cli.bars import Clock
from edgedenoise.cli.output import Output
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import FlipByte

    Contents = Callable[[Path], dict[str, bytes]]


# ---------------------------------------------------------------- denoise


def test_denoise_writes_the_image_and_tells_what_ran(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle, "--precision", "fp32")
    assert done.code == 0, done.err
    assert done.out.startswith("denoised 1 of 1 with onnx-fp32 on onnxruntime")
    assert read_image(tmp_path / "out.png").pixels.shape == (40, 50, 3)


def test_a_run_that_denoised_nothing_names_no_variant(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    done = run("denoise", tmp_path / "bad.png", "-o", tmp_path / "out.png", "-m", committed_bundle)
    assert done.out.strip() == "denoised 0 of 1"


def test_denoise_as_json_leaves_stdout_to_json(photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    """In a process of its own, where a runtime that prints would be seen."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgedenoise",
            "denoise",
            photo,
            "-o",
            tmp_path / "out",
            "-m",
            committed_bundle,
            "--precision",
            "int8",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    file, found = map(json.loads, done.stdout.splitlines())
    assert found["variant"] == "onnx-int8-u8s7"
    assert found["effective"]["device"] == "cpu"
    assert (file["source"], file["output"]) == (str(photo), str(tmp_path / "out" / "photo.png"))
    assert (file["error"], file["variant"]) == (None, "onnx-int8-u8s7")
    assert (tmp_path / "out" / "photo.png").is_file()


def test_quiet_says_nothing_on_stderr(run: Run, photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle, "-q", "--strength", "0")
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, read_image(photo).pixels)


def test_log_lines_read_like_the_errors(run: Run, photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle, "-v")
    assert done.code == 0
    assert f"info: wrote {tmp_path / 'out.png'}" in done.err.splitlines()
    assert not any(f"{level}:" in done.err for level in ("INFO", "WARNING"))


def test_warnings_are_logged_without_a_verbose_option(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denoise_files(*_: object, **__: object) -> None:
        logging.getLogger("edgedenoise.batch").warning("the disk is %s", "nearly full")
        raise errors.OutputError("the disk is full")

    monkeypatch.setattr("edgedenoise.denoise_files", denoise_files)
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", committed_bundle)
    assert done.err.splitlines() == ["warning: the disk is nearly full", "error: the disk is full"]
    assert run("denoise", photo, "-o", tmp_path / "out.png", "-q").err.splitlines() == ["error: the disk is full"]


def test_one_bad_image_is_told_and_the_others_are_written(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    (photo.parent / "text.jpg").write_text("not an image")
    done = run("denoise", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle, "--json", "-q")
    assert done.code == errors.ImageError.exit_code
    assert list(contents(tmp_path / "out")) == ["photo.png"]
    files = [record for record in done.records() if record["record"] == "file"]
    good, bad = sorted(files, key=lambda record: record["source"])
    assert good["error"] is None
    assert (bad["output"], bad["error"]["error"]) == (None, "ImageError")
    assert "text.jpg" in bad["error"]["message"]


# ---------------------------------------------------------------- errors, tried as a new user would


def text_as_jpg(photo: Path, bundle: Path) -> list[object]:
    bad = photo.with_name("text.jpg")
    bad.write_text("Dear diary, this is not an image. " * 20)
    return [bad, "-m", bundle]


def truncated_png(photo: Path, bundle: Path) -> list[object]:
    data = photo.read_bytes()
    photo.write_bytes(data[: len(data) * 2 // 3])
    return [photo, "-m", bundle]


def changed_bundle(photo: Path, bundle: Path) -> list[object]:
    model = bundle / "onnx-int8-u8s7" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    return [photo, "-m", bundle, "--precision", "int8"]


def changed_manifest(photo: Path, bundle: Path) -> list[object]:
    manifest = bundle / "manifest.json"
    written = manifest.read_bytes()
    edited = re.sub(rb'("halo_px": ?)8', rb"\g<1>7", written)
    assert edited != written
    manifest.write_bytes(edited)
    return [photo, "-m", bundle]


def no_manifest(photo: Path, bundle: Path) -> list[object]:
    (bundle / "manifest.json").unlink()
    return [photo, "-m", bundle]


def missing_package(photo: Path, bundle: Path) -> list[object]:
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        draft.write("openvino-fp32/model.xml", b"<net/>")
        draft.put_variant(Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml"))
    return [photo, "-m", bundle, "--runtime", "openvino"]


def missing_model(photo: Path, bundle: Path) -> list[object]:
    return [photo, "-m", bundle.with_name("nowhere.edge")]


def no_model_at_all(photo: Path, bundle: Path) -> list[object]:
    broken = bundle.with_name("broken.onnx")
    broken.write_bytes(b"this is not ONNX")
    return [photo, "-m", broken]


def missing_device(photo: Path, bundle: Path) -> list[object]:
    return [photo, "-m", bundle, "--device", "toaster"]


def missing_variant(photo: Path, bundle: Path) -> list[object]:
    return [photo, "-m", bundle, "--precision", "fp16"]


def failing_selftest(photo: Path, bundle: Path) -> list[object]:
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        np.save(draft.path("selftest/answer.npy"), np.zeros((3, 96, 96), np.float32))
    return [photo, "-m", bundle]


def option(*arguments: str) -> Callable[[Path, Path], list[object]]:
    return lambda photo, bundle: [photo, "-m", bundle, *arguments]


CASES: dict[str, tuple[Callable[[Path, Path], list[object]], type[EdgeDenoiseError], str]] = {
    "a text file called .jpg": (text_as_jpg, errors.ImageError, "text.jpg"),
    "a truncated PNG": (truncated_png, errors.DamagedImageError, "photo.png is a damaged PNG file"),
    "a bundle with one byte changed": (changed_bundle, errors.IntegrityError, "is damaged or was changed"),
    "a runtime whose package is missing": (
        missing_package,
        errors.RuntimeUnavailableError,
        'pip install "edgedenoise[openvino]"',
    ),
    "a wrong option": (option("--precision", "int4"), errors.UsageError, "expected auto, fp32, fp16, int8, w8a16"),
    "a missing model": (missing_model, errors.BundleError, "there is no bundle at"),
    "a folder that is no bundle": (no_manifest, errors.ManifestError, "is not a bundle"),
    "a file that is no model": (no_model_at_all, errors.InferenceError, "cannot open"),
    "a device that is not here": (missing_device, errors.DeviceNotFoundError, "onnxruntime: cpu"),
    "a precision that the bundle lacks": (missing_variant, errors.IncompatibleError, "it has onnx-fp32"),
    "a network that fails its self-test": (failing_selftest, errors.ParityError, "fails its self-test"),
}
OTHERS: dict[str, tuple[Callable[[Path, Path], list[object]], type[EdgeDenoiseError], str]] = {
    "an edited manifest": (changed_manifest, errors.IntegrityError, "changed by hand"),
    "a runtime without a variant": (
        option("--runtime", "tensorrt"),
        errors.IncompatibleError,
        "--target tensorrt",
    ),
    "a runtime that does not exist": (option("--runtime", "nope"), errors.UsageError, "expected one of onnxruntime"),
    "a tile of letters": (option("--tile", "big"), errors.UsageError, "got 'big'"),
    "a negative tile": (option("--tile", "-1"), errors.UsageError, "expected auto, 0"),
    "a tile in superscript": (option("--tile", "²"), errors.UsageError, "expected auto, 0"),
    "too much strength": (option("--strength", "2"), errors.UsageError, "strength is 2.0; expected 0"),
    "fewer than no threads": (option("--threads", "-3"), errors.UsageError, "threads"),
}


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_an_error_is_one_clear_message_with_its_own_code(
    run: Run,
    photo: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    prepare, error, message = {**CASES, **OTHERS}[case]
    arguments = prepare(photo, tiny_bundle)
    before = contents(tmp_path)
    done = run("denoise", *arguments, "-o", tmp_path / "out" / "result.png")
    assert done.code == error.exit_code, done.err
    assert message in done.err
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err + done.out
    assert "internal error" not in done.err
    assert contents(tmp_path) == before  # no output, whole or half


@pytest.mark.parametrize("case", ["a truncated PNG", "a wrong option", "a missing model", "a device that is not here"])
def test_with_json_an_error_is_json_too(run: Run, photo: Path, tiny_bundle: Path, tmp_path: Path, case: str) -> None:
    prepare, error, message = CASES[case]
    done = run("denoise", *prepare(photo, tiny_bundle), "-o", tmp_path / "out.png", "--json", "-q")
    found = done.records()[0]
    if error is errors.DamagedImageError:  # of one image among others
        found = found["error"]
    assert (done.code, done.err) == (error.exit_code, "")
    assert (found["error"], found["exit_code"]) == (error.__name__, error.exit_code)
    assert message in f"{found['message']}\n{found['hint']}"


def test_fields_of_an_error_are_those_that_it_has_in_python(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise errors.DeviceMemoryError("out of memory", suggested_tile=128)

    monkeypatch.setattr("edgedenoise.diagnose", failing, raising=False)
    assert run("doctor", "--json").json() == {
        "record": "error",
        "error": "DeviceMemoryError",
        "message": "out of memory",
        "hint": None,
        "suggested_tile": 128,
        "exit_code": errors.DeviceMemoryError.exit_code,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise", "a.png", "--json"], "Missing option '--out' / '-o'"),
        (["denoise", "a.png", "-o", "b.png", "--json", "--no-such"], "No such option: --no-such"),
        (["bench", "edge", "--repeats", "many", "--json"], "'--repeats'"),
        (["denoize", "--json"], "No such command 'denoize'"),
    ],
)
def test_with_json_a_usage_error_is_json_too(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    found = done.json()
    assert (done.code, done.err) == (errors.UsageError.exit_code, "")
    assert (found["error"], found["exit_code"]) == ("UsageError", errors.UsageError.exit_code)
    assert message in found["message"]
    assert found["hint"].startswith("See edgedenoise")
    assert found["hint"].endswith("--help")
    plain = run(*(argument for argument in arguments if argument != "--json"))
    assert (plain.code, plain.out) == (errors.UsageError.exit_code, "")
    assert plain.err == f"error: {found['message']}\n{found['hint']}\n"


def test_no_arguments_show_the_help(run: Run) -> None:
    done = run()
    assert "Usage: edgedenoise [OPTIONS] COMMAND" in done.out + done.err


def test_completion_is_offered() -> None:
    code = "import sys; sys.argv[0] = 'edgedenoise'; from edgedenoise.cli import main; main()"
    words = {"_EDGEDENOISE_COMPLETE": "complete_bash", "COMP_WORDS": "edgedenoise den", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == (["denoise"], "")


def test_quiet_hides_warnings_of_libraries_and_results_for_people(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning() -> None:
        warnings.warn("a library's warning", stacklevel=1)
        logging.getLogger("library").warning("a library's log")

    monkeypatch.setattr("edgedenoise.diagnose", warning, raising=False)
    monkeypatch.setattr("edgedenoise.cli.doctor.text_of_diagnosis", lambda diagnosis: "the result")
    assert run("doctor", "-q") == Done(0, "", "")
    with pytest.warns(UserWarning, match="a library's warning"):
        loud = run("doctor")
    assert loud.out == "the result\n"
    assert "a library's log" in loud.err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_not_utf_8_is_escaped(run: Run, photo: Path, committed_bundle: Path, tmp_path: Path) -> None:
    photo = photo.rename(photo.with_name(os.fsdecode(b"caf\xe9[x].png")))
    done = run("denoise", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle, "--json")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / photo.name).is_file()
    assert done.records()[0]["source"] == str(photo.with_name("caf\\xe9[x].png"))
    photo.write_text("not an image")
    done = run("denoise", photo.parent, "-o", tmp_path / "new", "-m", committed_bundle)
    assert done.code == errors.ImageError.exit_code
    assert "caf\\xe9[x].png is not an image file" in done.err


def test_a_name_is_no_markup_of_the_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False, quiet=False).progress() as progress:
        progress("denoise", 0, 2, "a[/red].png")
    assert "a[/red].png" in capsys.readouterr().err


def test_a_finished_bar_names_no_time_below_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False, quiet=False).progress() as progress:
        progress("export", 0, 1)
        progress("export", 1, 1)
    shown = capsys.readouterr().err
    assert "1/1" in shown
    assert "0:00:00" not in shown
    assert "took" not in shown


@pytest.mark.parametrize(("seconds", "text"), [(0.4, ""), (5.9, "took 0:00:05"), (3725.0, "took 1:02:05")])
def test_the_time_of_a_stage_is_shown_from_one_second_on(seconds: float, text: str) -> None:
    task = Task(TaskID(0), "export", 1, 1, lambda: 0.0, finished_time=seconds)
    assert Clock().render(task).plain == text


def test_no_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False, quiet=False).progress():
        pass
    assert capsys.readouterr() == ("", "")


def test_no_two_of_these_errors_share_a_code() -> None:
    codes = [error.exit_code for _, error, _ in CASES.values()]
    assert len(set(codes)) == len(CASES)
    assert not {0, 1} & set(codes)


def test_every_error_class_has_a_code_of_its_own() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EdgeDenoiseError)]
    assert len({c.exit_code for c in classes}) == len(classes) > 20
    assert all("exit_code" in vars(c) for c in classes)
    assert all(0 < c.exit_code < 126 for c in classes)  # shells use the rest themselves


@pytest.mark.parametrize("command", ["bench", "compare"])
def test_a_command_that_measured_nothing_fails(run: Run, photo: Path, tiny_bundle: Path, command: str) -> None:
    options = ["--noisy", photo.parent] if command == "compare" else []
    done = run(command, tiny_bundle, *options, "--repeats", "1", "--device", "nowhere")
    assert done.code == errors.MeasurementError.exit_code
    assert done.out == ""
    assert "none of the 2 variants" in done.err
    assert "onnx-fp32: " in done.err


@pytest.mark.parametrize("command", ["bench", "compare"])
def test_a_variant_that_fails_has_an_error_with_quiet_too(
    run: Run, photo: Path, tiny_bundle: Path, flip_byte: FlipByte, command: str
) -> None:
    flip_byte(tiny_bundle / "onnx-int8-u8s7" / "model.onnx")
    options = ["--noisy", photo.parent] if command == "compare" else []
    done = run(command, tiny_bundle, *options, "--repeats", "1", "-q")
    assert done.code == errors.MeasurementError.exit_code
    assert done.out == ""
    assert "error: not measured: onnx-int8-u8s7: " in done.err


def test_a_missing_option_is_a_usage_error(run: Run, photo: Path) -> None:
    done = run("denoise", photo)
    assert done.code == errors.UsageError.exit_code
    assert "--out" in done.err
    assert done.out == ""


def test_a_command_whose_package_is_missing_names_the_command_that_installs_it(committed_bundle: Path) -> None:
    """What a device without the package onnx says to `quantize`."""
    code = "import sys; sys.modules['onnx'] = None; from edgedenoise.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "quantize", committed_bundle],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == errors.RuntimeUnavailableError.exit_code
    assert done.stdout == ""
    assert "the package onnx is needed" in done.stderr
    assert 'pip install "edgedenoise[quantize]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_too(run: Run, photo: Path, tmp_path: Path) -> None:
    done = run("denoise", photo, "-o", tmp_path / "out.png", "-m", tmp_path / "nowhere.edge", "--debug")
    assert done.code == errors.BundleError.exit_code
    assert "Traceback" in done.err
    assert "error: there is no bundle at" in done.err


def test_a_mistake_of_ours_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedenoise.diagnose", lambda: 1 // 0, raising=False)
    done = run("doctor")
    assert done.code == 1
    assert "internal error: ZeroDivisionError" in done.err
    assert "--debug" in done.err
    assert "Traceback" not in done.err


def test_an_interrupt_is_not_an_error_of_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedenoise.diagnose", interrupted, raising=False)
    done = run("doctor")
    assert done.code == 130
    assert "interrupted" in done.err


# ---------------------------------------------------------------- the other commands of the base install


def test_doctor_lists_every_target_with_what_would_install_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = run("doctor", "--json").json()
    backends = {one["backend"]: one for one in found["backends"]}
    assert {"onnxruntime", "openvino", "tensorrt", "coreml"} <= set(backends)
    assert backends["onnxruntime"]["available"]
    assert backends["openvino"]["command"] == 'pip install "edgedenoise[openvino]"'
    assert found["environment"]["cores"] >= 1
    assert "onnxruntime" in found["environment"]["packages"]
    text = run("doctor").out
    assert 'to fix: pip install "edgedenoise[openvino]"' in text
    assert all(name in text for name in backends)


@pytest.fixture
def noisy_folder(tmp_path: Path, pair: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Path:
    """Four images with camera noise in `noisy`, and without in `clean`; returns the folder above."""
    for seed in range(4):
        noisy, clean = pair(300 + seed)
        write_image(Image(noisy), tmp_path / "noisy" / f"{seed}.png")
        write_image(Image(clean), tmp_path / "clean" / f"{seed}.png")
    return tmp_path


def test_doctor_looks_at_images(run: Run, noisy_folder: Path) -> None:
    done = run("doctor", "--data", noisy_folder / "noisy")
    assert done.code == 0, done.out + done.err
    assert "4 images, 0.3 megapixels" in done.out
    assert "can be trained on" in done.out
    found = run("doctor", "--data", noisy_folder / "noisy", "--json", "-q").json()
    assert (found["images"], found["refusals"]) == (4, [])
    assert 1 <= found["stride"] <= 6
    assert found["warnings"][0]["code"] == "thin"


def test_doctor_says_by_its_code_that_images_cannot_be_trained_on(run: Run, noisy_folder: Path) -> None:
    done = run("doctor", "--data", noisy_folder / "clean", "--json", "-q")
    assert done.code == errors.DatasetError.exit_code
    assert "no-noise" in [finding["code"] for finding in done.json()["refusals"]]
    done = run("doctor", "--data", noisy_folder)
    assert done.code == errors.DatasetError.exit_code
    assert "holds no images" in done.err


def test_inspect_states_the_loss_of_int8(run: Run, committed_bundle: Path) -> None:
    variants = json.loads((committed_bundle / "manifest.json").read_bytes())["variants"]
    for variant in variants:
        if variant["precision"] == "int8":
            variant["loss"] = {"mean_db": 0.36, "worst_db": 1.26, "images": 12, "truth": "clean"}
    rewrite_manifest(committed_bundle, variants=variants)
    lost = "0.36 dB lost in the mean and 1.26 dB on the worst of 12 images"
    assert f"onnx-int8-u8s7: not recommended: {lost}" in run("inspect", committed_bundle).out


def test_inspect_shows_what_a_bundle_holds(run: Run, committed_bundle: Path) -> None:
    text = run("inspect", committed_bundle).out
    assert "halo 8 px" in text
    assert "onnx-int8-u8s7" in text
    found = run("inspect", committed_bundle, "--json").json()
    assert found["tiling"]["halo_px"] == 8
    assert [variant["name"] for variant in found["variants"]] == ["onnx-fp32", "onnx-int8-u8s7"]
    lone = run("inspect", committed_bundle / "onnx-fp32" / "model.onnx", "--json").json()
    assert lone["network"] == found["network"]


def test_verify_answers_in_json(run: Run, committed_bundle: Path) -> None:
    done = run("verify", committed_bundle, "--json", "-q")
    assert done.code == 0, done.err
    assert [check["status"] for check in done.json()["variants"]] == ["passed", "passed"]


def test_a_perfect_answer_is_json_too(run: Run, tiny_bundle: Path) -> None:
    """Its PSNR is infinite, which JSON has no number for."""
    bundle = Bundle.open(tiny_bundle)
    session = open_variant(bundle, bundle.variant("onnx-fp32"), selftest=False)
    picture, _ = selftest_pair(bundle)
    answer = run_image(session, picture, bundle.manifest.input_normalization, bundle.manifest.tiling)
    session.close()
    with BundleWriter.edit(bundle) as draft:
        np.save(draft.path("selftest/answer.npy"), answer)
    done = run("verify", tiny_bundle, "--json", "-q")
    assert done.code == 0, done.err
    assert done.json()["variants"][0]["max_error_lsb"] == 0


def test_verify_fails_with_the_code_of_parity(run: Run, tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        np.save(draft.path("selftest/answer.npy"), np.zeros((3, 96, 96), np.float32))
    done = run("verify", tiny_bundle, "--json", "-q")
    assert done.code == errors.ParityError.exit_code
    assert [check["status"] for check in done.json()["variants"]] == ["failed", "failed"]


def test_verify_fails_where_no_variant_could_be_run(run: Run, tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        foreign = Variant("elsewhere-fp16", "elsewhere", "fp16", "elsewhere-fp16/model.bin")
        draft.write(foreign.path, b"for a backend that is not installed")
        draft.put_variant(foreign)
        draft.drop_variants({"onnx-fp32", "onnx-int8-u8s7"})
    done = run("verify", tiny_bundle)
    assert done.code == errors.MeasurementError.exit_code
    assert "elsewhere-fp16" in done.out
    assert "error: no variant was run or emulated here" in done.err


def test_test_writes_a_line_per_check_and_fails_with_its_own_code(
    run: Run, committed_bundle: Path, tmp_path: Path
) -> None:
    report = tmp_path / "junit.xml"
    done = run("test", committed_bundle, "--min-psnr", "30dB", "--junit", report)
    assert done.code == 0, done.err
    assert "passed   onnx-int8-u8s7 min_psnr_db: 44." in done.out
    assert report.read_bytes().startswith(b"<?xml")
    failed = run("test", committed_bundle, "--max-levels", 1)
    assert failed.code == errors.LimitError.exit_code
    assert "failed   onnx-int8-u8s7 max_error_lsb" in failed.out
    assert "error: 1 of 6 checks" in failed.err
    as_json = run("test", committed_bundle, "--max-levels", 1, "--json", "-q")
    assert as_json.code == errors.LimitError.exit_code
    assert [one["status"] for one in as_json.json()["outcomes"]].count("failed") == 1
    wrong = run("test", committed_bundle, "--max-drop", "much")
    assert wrong.code == errors.UsageError.exit_code
    assert "--max-drop is not accepted: expected decibels" in wrong.err
    unchecked = run("test", committed_bundle, "--max-drop", "0.1dB")
    assert unchecked.code == errors.UsageError.exit_code
    assert "--max-drop cannot be checked: expected images with ground truth, got none" in unchecked.err


def test_pack_and_unpack_give_the_bundle_back(
    run: Run, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    packed = tmp_path / "packed.edge"
    assert run("pack", committed_bundle, "-o", packed, "--json").json() == {"path": str(packed)}
    assert packed.is_file()
    done = run("pack", packed, "--unpack", "-o", tmp_path / "again.edge")
    assert done.code == 0, done.err
    assert contents(tmp_path / "again.edge") == contents(committed_bundle)
    assert run("pack", packed, "--unpack", "-o", tmp_path / "again.edge").code == errors.BundleError.exit_code


def test_pack_refuses_a_damaged_bundle(run: Run, tiny_bundle: Path, tmp_path: Path, flip_byte: FlipByte) -> None:
    flip_byte(tiny_bundle / "calibration" / "set.json")
    done = run("pack", tiny_bundle, "-o", tmp_path / "packed.zip")
    assert done.code == errors.IntegrityError.exit_code
    assert not (tmp_path / "packed.zip").exists()


@pytest.mark.parametrize("where", [".", "inside.zip"], ids=["onto itself", "into itself"])
def test_a_bundle_is_not_packed_onto_or_into_itself(
    run: Run, tiny_bundle: Path, contents: Contents, where: str
) -> None:
    before = contents(tiny_bundle)
    done = run("pack", tiny_bundle, "-o", tiny_bundle / where)
    assert done.code not in (0, 1), done.out + done.err
    assert "internal error" not in done.err
    assert contents(tiny_bundle) == before


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.EMFILE, "ulimit -n 4096"), (errno.ENOSPC, "Free some space: df -h")]
)
def test_what_the_system_refuses_is_no_internal_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, hint: str
) -> None:
    def failing() -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "file"))

    monkeypatch.setattr("edgedenoise.diagnose", failing, raising=False)
    done = run("doctor")
    assert done.code == EdgeDenoiseError.exit_code
    assert done.err.startswith(f"error: {tmp_path / 'file'}: {os.strerror(number)}")
    assert hint in done.err
