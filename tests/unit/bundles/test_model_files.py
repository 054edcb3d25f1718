"""A runtime gets the bytes that were checked: no link, no external weights, no file that was swapped afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

import edgedenoise
from edgedenoise.bundles.archive import pack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.onnx_data import external_tensor
from edgedenoise.bundles.writer import BundleWriter, copy_bundle
from edgedenoise.calibration.calibrate import float_graph
from edgedenoise.cli import app
from edgedenoise.denoiser import load
from edgedenoise.errors import BundleError, InferenceError, IntegrityError
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "onnx-fp32/model.onnx"
X = np.random.default_rng(0).random((40, 50, 3), np.float32)


def field(number: int, *parts: bytes) -> bytes:
    """A field of a protocol buffer with a length."""
    data = b"".join(parts)
    length, size = len(data), b""
    while length >= 0x80:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])) + size + bytes([length]) + data


EXTERNAL = field(8, b"w") + b"\x70\x01"  # TensorProto: name; data_location = EXTERNAL
ENTRY = field(8, b"w") + field(13, field(1, b"location"), field(2, b"/etc/passwd"))
PLACES = {
    "initializer": field(7, field(5, EXTERNAL)),
    "external_data without a location": field(7, field(5, ENTRY)),
    "overlong number": field(7, field(5, field(8, b"w") + b"\x70\x81\x80\x80\x80\x00")),
    "constant": field(7, field(1, field(5, field(5, EXTERNAL)))),
    "list of constants": field(7, field(1, field(5, field(10, EXTERNAL)))),
    "branch": field(7, field(1, field(5, field(6, field(5, EXTERNAL))))),
    "sparse": field(7, field(15, field(1, EXTERNAL))),
    "function": field(25, field(7, field(5, field(5, EXTERNAL)))),
    "second graph": field(7, b"") + field(7, field(5, EXTERNAL)),
}


# ---------------------------------------------------------------- external data


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_found_wherever_they_are(place: str) -> None:
    assert external_tensor(PLACES[place]) == "w"


def test_a_sound_model_has_no_external_weights(committed_bundle: Path) -> None:
    assert external_tensor((committed_bundle / MODEL).read_bytes()) is None
    assert external_tensor(b"") is None


@pytest.mark.parametrize(
    "data",
    [b"\x0c", b"\x3a\x05\x00", b"\xff" * 20, b"\x3a", b"\x0d\x00"],
    ids=["group", "cut", "number", "tag", "fixed"],
)
def test_what_is_no_protocol_buffer_is_refused(data: bytes) -> None:
    with pytest.raises(InferenceError, match="cannot open"):
        ModelFiles.of_bytes("m.onnx", data)


def test_graphs_that_nest_without_end_are_refused() -> None:
    data = field(5, EXTERNAL)
    for _ in range(100):
        data = field(1, field(5, field(6, data)))
    with pytest.raises(ValueError, match="nest"):
        external_tensor(field(7, data))


def test_a_bundle_with_external_weights_does_not_load(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write(MODEL, (tiny_bundle / MODEL).read_bytes() + PLACES["initializer"])
    with pytest.raises(IntegrityError, match="keeps the weights 'w' in another file"):
        load(tiny_bundle, precision="fp32")
    with pytest.raises(IntegrityError, match="in another file"):
        load(tiny_bundle / MODEL)
    assert CliRunner().invoke(app, ["denoise", "-m", str(tiny_bundle), "x.png", "-o", "y.png"]).exit_code != 0


@pytest.mark.parametrize("name", ["model.ONNX", "model.bin", "model.xml"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_name_of_a_file_hides_no_external_weights(tiny_bundle: Path, name: str, runtime: str) -> None:
    pytest.importorskip(runtime)
    bundle = Bundle.open(tiny_bundle)
    path = f"onnx-fp32/{name}"
    with BundleWriter.edit(bundle) as draft:
        draft.put_variant(msgspec.structs.replace(bundle.variant("onnx-fp32"), runtime=runtime, path=path))
        draft.write(path, (tiny_bundle / MODEL).read_bytes() + PLACES["initializer"])
    with pytest.raises(IntegrityError, match="keeps the weights 'w' in another file"):
        load(tiny_bundle, runtime=runtime, precision="fp32")
    if runtime == "onnxruntime":
        with pytest.raises(IntegrityError, match="keeps the weights 'w' in another file"):
            float_graph(Bundle.open(tiny_bundle))


# ---------------------------------------------------------------- read once


def test_a_file_that_is_swapped_after_the_check_never_runs(
    tiny_bundle: Path, nan_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_session = OnnxRuntime.open_session

    def swapped(self: OnnxRuntime, *arguments: object) -> object:
        (tiny_bundle / MODEL).write_bytes(nan_model)
        return open_session(self, *arguments)  # type: ignore[arg-type]

    with load(tiny_bundle, precision="fp32") as denoiser:
        expected = denoiser(X)
    monkeypatch.setattr(OnnxRuntime, "open_session", swapped)
    with load(tiny_bundle, precision="fp32") as denoiser:
        np.testing.assert_array_equal(denoiser(X), expected)
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        load(tiny_bundle, precision="fp32")


def test_openvino_reads_the_checked_bytes(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")
    from edgedenoise.runtimes.openvino.backend import OpenVino

    edgedenoise.compile(tiny_bundle, target="openvino", precision="fp32")
    open_session = OpenVino.open_session

    def swapped(self: OpenVino, *arguments: object) -> object:
        for file in (tiny_bundle / "openvino-fp32").iterdir():
            file.write_bytes(b"swapped")
        return open_session(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenVino, "open_session", swapped)
    with load(tiny_bundle, runtime="openvino", precision="fp32") as denoiser:
        assert denoiser(X).shape == X.shape
    (tiny_bundle / "openvino-fp32" / "model.bin").unlink()
    with pytest.raises(IntegrityError, match=r"model\.bin is missing"):
        load(tiny_bundle, runtime="openvino", precision="fp32")


def test_weights_that_the_manifest_does_not_record_are_not_read(tiny_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")
    edgedenoise.compile(tiny_bundle, target="openvino", precision="fp32")
    weights = (tiny_bundle / "openvino-fp32" / "model.bin").read_bytes()
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.remove("openvino-fp32/model.bin")
    (tiny_bundle / "openvino-fp32" / "model.bin").write_bytes(weights)
    with pytest.raises((IntegrityError, InferenceError)):
        load(tiny_bundle, runtime="openvino", precision="fp32")


# ---------------------------------------------------------------- links


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("TOP SECRET")
    return tmp_path / "secret.txt"


def with_link(bundle: Path, name: str, target: Path) -> None:
    (bundle / name).unlink(missing_ok=True)
    try:
        (bundle / name).symlink_to(target)
    except OSError:
        pytest.skip("this system makes no links")


@pytest.mark.parametrize("name", [MODEL, "selftest/picture.npy", "manifest.json"])
def test_a_recorded_file_that_is_a_link_is_refused(tiny_bundle: Path, committed_bundle: Path, name: str) -> None:
    with_link(tiny_bundle, name, committed_bundle / name)
    with pytest.raises(IntegrityError, match="is a link"):
        load(tiny_bundle, precision="fp32")


def test_a_folder_that_is_a_link_is_refused(tiny_bundle: Path, committed_bundle: Path, tmp_path: Path) -> None:
    (tiny_bundle / "onnx-fp32").rename(tmp_path / "elsewhere")
    with_link(tiny_bundle, "onnx-fp32", tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="is a link"):
        load(tiny_bundle, precision="fp32")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tiny_bundle: Path) -> None:
    (tiny_bundle / MODEL).unlink()
    os.mkfifo(tiny_bundle / MODEL)
    with pytest.raises(IntegrityError, match="special file"):
        load(tiny_bundle, precision="fp32")


def opened_and_edited(bundle: Path, target: Path) -> None:
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        draft.write("note.txt", target.name.encode())


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda bundle, target: Bundle.open(bundle).check(), id="check"),
        pytest.param(lambda bundle, target: pack(bundle, target), id="pack"),
        pytest.param(opened_and_edited, id="edit"),
    ],
)
def test_a_stray_link_is_refused_and_nothing_is_read_through_it(
    tiny_bundle: Path, secret: Path, tmp_path: Path, use: Callable[[Path, Path], None]
) -> None:
    with_link(tiny_bundle, "notes.txt", secret)
    with pytest.raises(BundleError, match="is a link"):
        use(tiny_bundle, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    assert (tiny_bundle / "notes.txt").is_symlink()


def test_a_copy_takes_recorded_files_only(tiny_bundle: Path, secret: Path, tmp_path: Path) -> None:
    with_link(tiny_bundle, "notes.txt", secret)
    copy_bundle(Bundle.open(tiny_bundle), tmp_path / "copy.edge")
    assert not os.path.lexists(tmp_path / "copy.edge" / "notes.txt")


def test_a_model_that_does_not_open_prints_nothing(committed_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime's own fallback prints to the standard output, where a command writes its JSON."""
    model = (committed_bundle / MODEL).read_bytes().replace(b"Relu", b"Rel\xff")
    variant = Bundle.open(committed_bundle).variant("onnx-fp32")
    with pytest.raises(InferenceError, match="cannot"):
        OnnxRuntime().open(variant, ModelFiles.of_bytes("m.onnx", model))
    assert capfd.readouterr().out == ""
