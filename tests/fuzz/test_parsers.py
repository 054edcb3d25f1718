"""Every parser of a bundle's files turns every damage into an error of ours, in little time and memory.

`make test` tries some hundred inputs per parser; `make fuzz` sets EDGEDENOISE_FUZZ to many more. A failure names the
parser and the number of the input, which is the same at every run.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from mutation import mutations

from edgedenoise.bundles.archive import pack, unpack_stream
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.contents import read_array, read_arrays, read_json
from edgedenoise.bundles.manifest import embedded_metadata
from edgedenoise.bundles.manifest_json import parse_manifest
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.histograms import Histogram, from_bytes, to_bytes
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.selftest import ANSWER_FILE, IMAGE_FILE
from edgedenoise.runtimes.tensorrt.engine_record import read_record
from edgedenoise.training.config.text import load_toml, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT = int(os.environ.get("EDGEDENOISE_FUZZ", "300"))
SEED = int(os.environ.get("EDGEDENOISE_FUZZ_SEED", "0"))
SLOW_S = 5.0
ROOT = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
WHERE = Path("B.edge")


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: str, kind: str = "'<f4'", rest: bytes = b"") -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


ARRAYS = [
    npy(np.zeros((3, 4, 4), np.float32)),
    header("(3, 100000000, 100000)"),
    header("(4611686018427387904,)"),
    header("(3, -1, 96)"),
    header("(3, 4, 4)", "'|O'", b"\x80\x04."),
    header("(3, 4, 4)", "[('a','<f4')]", bytes(192)),
    header("(" * 300),
    header("()", rest=bytes(4)),
]


def toml(data: bytes, folder: Path) -> object:
    (folder / "c.toml").write_bytes(data)
    return read_toml(folder / "c.toml")


def archive(data: bytes, folder: Path) -> None:
    unpack_stream(io.BytesIO(data), WHERE, folder / f"{time.monotonic_ns()}.edge")


def archives(folder: Path) -> list[bytes]:
    pack(ROOT, folder / "stored.zip")
    with zipfile.ZipFile(folder / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as deflated:
        for file in sorted(ROOT.rglob("*")):
            if file.is_file() and file.suffix != ".onnx":
                deflated.write(file, file.relative_to(ROOT))
    return [(folder / name).read_bytes() for name in ("stored.zip", "deflated.zip")]


def opened_onnx(data: bytes, folder: Path) -> None:
    variant = Bundle.open(ROOT).variant("onnx-fp32")
    OnnxRuntime().open(variant, ModelFiles.of_bytes("m.onnx", data), "cpu", SessionOptions(threads=1)).close()


def corpus_of_plan() -> list[bytes]:
    from fake_nvidia import RECORD

    return [msgspec.json.encode(RECORD)]


def histograms() -> list[bytes]:
    one = Histogram()
    one.add(np.arange(100, dtype=np.float32))
    return [to_bytes({"image": one}), npz(names=np.array(["a"]), limits=np.zeros((1, 3)), counts=np.zeros((1, 8)))]


def embedded() -> list[bytes]:
    manifest = Bundle.open(ROOT).manifest
    return [embedded_metadata(manifest, variant) for variant in manifest.variants]


PARSERS: dict[str, tuple[Callable[[Path], Sequence[bytes]], Callable[[bytes, Path], object]]] = {
    "manifest": (
        lambda _: [(ROOT / "manifest.json").read_bytes()],
        lambda data, _: parse_manifest(data, WHERE / "manifest.json", WHERE),
    ),
    "embedded metadata": (lambda _: embedded(), lambda data, _: Bundle.from_metadata(WHERE / "m.onnx", data)),
    "npy": (
        lambda _: [*ARRAYS, *((ROOT / name).read_bytes()[:4000] for name in (IMAGE_FILE, ANSWER_FILE))],
        lambda data, _: read_array(data, "a.npy"),
    ),
    "npz": (lambda _: [npz(a=np.zeros(3), b=np.ones((2, 2)))], lambda data, _: read_arrays(data, "a.npz")),
    "histograms": (lambda _: histograms(), lambda data, _: from_bytes(data)),
    "calibration set": (
        lambda _: [(ROOT / "calibration" / "set.json").read_bytes()[:3000]],
        lambda data, _: read_json(data, CalibrationSet, "set.json"),
    ),
    "TOML": (lambda _: [b'network = "cbsn-24x4"\nsteps = 3\n[a.b]\nc = [1, 2]\nd = 1979-05-27\n'], toml),
    "archive": (archives, archive),
    "ONNX": (lambda _: [(ROOT / "onnx-fp32" / "model.onnx").read_bytes()[:2000]], opened_onnx),
    "engine record": (
        lambda _: corpus_of_plan(),
        lambda data, _: read_record(ModelFiles(Path("e.plan"), Path(), {"e.plan": b"", "e.json": data})),
    ),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_damaged_input_gives_an_error_of_ours(parser: str, tmp_path: Path) -> None:
    corpus, parse = PARSERS[parser]
    sound = corpus(tmp_path)
    for number, data in enumerate([*sound, *mutations(sound, SEED, COUNT)]):
        begun = time.monotonic()
        try:
            parse(data, tmp_path)
        except EdgeDenoiseError:
            pass
        except Exception as error:
            raise AssertionError(f"{parser}, input {number}, seed {SEED}: {type(error).__name__}: {error}") from error
        took = time.monotonic() - begun
        assert took < SLOW_S, f"{parser}, input {number}, seed {SEED}: {took:.1f} s"


# ---------------------------------------------------------------- found by fuzzing, kept


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, '{"x": ' + "9" * 5000 + "}", '{"schema": 1e999}', "\ufeff{}", "[]", "", '{"schema": "\\ud800"}'],
    ids=["nested", "huge integer", "infinite", "BOM", "list", "empty", "surrogate"],
)
def test_manifests_that_were_foreign_errors(text: str) -> None:
    with pytest.raises(EdgeDenoiseError):
        parse_manifest(text.encode("utf-8", "surrogatepass"), WHERE / "manifest.json", WHERE)


def test_toml_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeDenoiseError, match="is not TOML"):
        toml(b"x = " + b"[" * 5000, tmp_path)
    assert load_toml("x = 1") == {"x": 1}


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "m" * 5000 + ".onnx"])
def test_names_that_no_file_can_have_are_errors_of_ours(name: str) -> None:
    import edgedenoise

    with pytest.raises(EdgeDenoiseError):
        edgedenoise.load(name)
    with pytest.raises(EdgeDenoiseError):
        Bundle.open(name)
