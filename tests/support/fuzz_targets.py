"""The parsers that the fuzzer feeds: one target per kind of file, each of which does what a command does with it."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from mutation import changed, changed_json

from edgedenoise.bundles.archive import unpack_stream
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.contents import read_array, read_arrays
from edgedenoise.bundles.manifest import Manifest, embedded_metadata
from edgedenoise.bundles.manifest_json import _digest, parse_manifest
from edgedenoise.bundles.model_card import model_card
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.histograms import from_bytes
from edgedenoise.calibration.images import images_of
from edgedenoise.errors import ImageError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.headers import read_layout
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import ReadOptions
from edgedenoise.imaging.tiling import auto_tile, plan_tiles
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.tensorrt.engine_record import mismatch, read_record, this_platform
from edgedenoise.runtimes.tensorrt.nvidia import Gpu

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from mutation import Change

TESTS = Path(__file__).resolve().parents[1]
CORPUS, FINDINGS, COMPANIONS = (TESTS / "fuzz" / name for name in ("corpus", "findings", "companions"))
BUNDLE = TESTS / "fixtures" / "tiny.edge"
WHERE = Path("B.edge")
MAX_PIXELS = 20_000_000
"""What the fuzzer accepts of an image: a header of more is refused, as at any limit, and costs nothing."""
_FRAMES = 20
_OUTPUTS = (".png", ".tif", ".jpg", ".webp", ".gif", ".ppm", ".bmp")


@dataclass(frozen=True)
class Target:
    """A parser."""

    parse: Callable[[bytes, Path], object]
    """Reads an input as a command would; the folder is empty and may be written."""
    change: Change = changed
    """Makes an input of a sound one."""
    needs: tuple[str, ...] = ()
    """Packages without which it is left out."""


def corpus_of(name: str) -> list[bytes]:
    """Return the sound inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def findings_of(name: str) -> dict[str, bytes]:
    """Return the inputs of a target that once were foreign errors, hangs or too large, by file name."""
    folder = FINDINGS / name
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


# ---------------------------------------------------------------- images


def image(data: bytes, folder: Path, name: str = "a") -> None:
    """Read an image with all its frames and write it in another format."""
    path = folder / name
    path.write_bytes(data)
    read_layout(path)
    found = decode_image(data, name=name, options=ReadOptions(frames=True, max_pixels=MAX_PIXELS, convert_cmyk=True))
    for number, _ in enumerate(found.following):
        if number == _FRAMES:
            break
    else:
        with suppress(ImageError):  # the format cannot hold the image
            write_image(found, folder / f"out{_OUTPUTS[zlib.crc32(data) % len(_OUTPUTS)]}")


def raw(data: bytes, folder: Path) -> None:
    """Develop a camera raw file."""
    image(data, folder, "a.dng")


def with_checksums(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a mutated PNG whose chunks have the right checksums, most often."""
    mutated = changed(data, chance, corpus)
    if chance.random() < 0.2:
        return mutated
    repaired, at = bytearray(mutated), 8
    while at + 12 <= len(repaired):
        (length,) = struct.unpack_from(">I", repaired, at)
        end = at + 8 + length
        if end + 4 > len(repaired):
            break
        struct.pack_into(">I", repaired, end, zlib.crc32(repaired[at + 4 : end]))
        at = end + 4
    return bytes(repaired)


# ---------------------------------------------------------------- bundles


def resealed(data: bytes) -> bytes:
    """Return a manifest with the right digest, as whoever wants to deceive writes it."""
    try:
        values = json.loads(data)
        return json.dumps({**values, "digest": _digest(values)}).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        return data


def manifest(data: bytes, _: Path) -> None:
    """Read a manifest, and use what it states."""
    found, _unknown = parse_manifest(resealed(data), WHERE / "manifest.json", WHERE)
    used(found)


def used(found: Manifest) -> None:
    """Do what commands do with a manifest before they open a model."""
    model_card(found)
    str(found.input_normalization)
    for variant in found.variants:
        embedded_metadata(found, variant)
        str(variant.not_recommended)
    for height, width in ((1, 1), (480, 640), (4000, 6000)):
        plan_tiles(height, width, found.tiling, auto_tile(height, width, found.tiling, 1 << 30))


def metadata(data: bytes, _: Path) -> None:
    """Read the metadata in a model file, and use what it states."""
    used(Bundle.from_metadata(WHERE / "m.onnx", data).manifest)


def whole_bundle(data: bytes, folder: Path) -> None:
    """Denoise a small image with a bundle whose manifest is hostile and resealed."""
    from edgedenoise.denoiser import load

    root = bundle_in(folder)
    (root / "manifest.json").write_bytes(resealed(data))
    with load(root, runtime="onnxruntime", threads=1) as denoiser:
        denoiser(np.zeros((20, 24, 3), np.uint8))


def bundle_in(folder: Path) -> Path:
    """Return a copy of the committed bundle in a folder."""
    return Path(shutil.copytree(BUNDLE, folder / "tiny.edge"))


def archive(data: bytes, folder: Path) -> None:
    """Unpack an archive."""
    unpack_stream(io.BytesIO(data), WHERE, folder / "out.edge")


def rezipped(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a zip of which one member was mutated and all checksums are right, or the mutated bytes."""
    if chance.random() < 0.5:
        return changed(data, chance, corpus)
    with zipfile.ZipFile(io.BytesIO(data)) as sound:
        members = {member.filename: sound.read(member) for member in sound.infolist()}
    name = chance.choice(sorted(members))
    content = changed(members[name], chance, list(members.values()))
    members[name] = resealed(content) if name == "manifest.json" else content
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for member, text in members.items():
            made.writestr(zipfile.ZipInfo(member), text)
    return stream.getvalue()


def engine_record(data: bytes, _: Path) -> None:
    """Read the record of an engine, and compare it with a machine."""
    record = read_record(ModelFiles(Path("e.plan"), Path(), {"e.plan": b"", "e.json": data}))
    for module in ("tensorrt", "tensorrt_lean", "tensorrt_rtx"):
        mismatch(record, module, "10.3.0", Gpu(0, "Orin", "8.7", "12.6"), this_platform())


def ranges(data: bytes, folder: Path) -> None:
    """Read ranges as `quantize` does: resealed into a bundle."""
    from edgedenoise.calibration.calibrate import stored_ranges

    stored_ranges(_bundle_with(folder, "calibration/ranges.json", data))


def calibration_set(data: bytes, folder: Path) -> None:
    """Read a calibration set as `inspect` does: resealed into a bundle."""
    from edgedenoise.calibration.calibrate import calibration_report

    calibration_report(_bundle_with(folder, "calibration/set.json", data))


def _bundle_with(folder: Path, name: str, data: bytes) -> Bundle:
    """Return a bundle that records other content of one file, correctly."""
    from hashlib import sha256

    values = json.loads((BUNDLE / "manifest.json").read_bytes())
    values["files"][name] = {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)}
    root = bundle_in(folder)
    (root / name).write_bytes(data)
    (root / "manifest.json").write_bytes(resealed(json.dumps(values).encode()))
    return Bundle.open(root)


# ---------------------------------------------------------------- models


def onnx_model(data: bytes, _: Path) -> None:
    """Open a model in ONNX Runtime, and read its metadata."""
    from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime

    variant, model = Bundle.open(BUNDLE).variant("onnx-fp32"), ModelFiles.of_bytes("m.onnx", data)
    backend = OnnxRuntime()
    backend.open(variant, model, "cpu", SessionOptions(threads=1)).close()
    Bundle.from_metadata(Path("m.onnx"), backend.metadata(model))


def onnx_graph(data: bytes, _: Path) -> None:
    """Read a graph as `quantize` and `verify` do: its problems, its cost and its receptive field."""
    from edgedenoise.calibration.graphs import load_onnx
    from edgedenoise.exporting.onnx.graph import check_graph, macs_per_px, parameter_count, peak_bytes_per_px
    from edgedenoise.exporting.onnx.receptive_field import receptive_field

    graph = load_onnx(ModelFiles.of_bytes("m.onnx", data).onnx_data)
    receptive_field(graph)
    check_graph(graph)
    for count in (macs_per_px, parameter_count, peak_bytes_per_px):
        count(graph)


def openvino_ir(data: bytes, _: Path) -> None:
    """Open an IR in OpenVINO, and read its metadata."""
    from edgedenoise.runtimes.openvino.backend import OpenVino

    contents = {"m.xml": data, "m.bin": (COMPANIONS / "branched.bin").read_bytes()}
    model, backend = ModelFiles(Path("m.xml"), Path(), contents), OpenVino()
    variant = msgspec.structs.replace(Bundle.open(BUNDLE).variant("onnx-fp32"), runtime="openvino")
    backend.open(variant, model, "cpu", SessionOptions(threads=1)).close()
    backend.metadata(model)


def core_ml(data: bytes, folder: Path) -> None:
    """Read a Core ML program, and compute it with the emulator."""
    from edgedenoise.exporting.coreml.emulation import EmulatedPackage

    inner = folder / "a.mlpackage" / "Data" / "com.apple.CoreML"
    (inner / "weights").mkdir(parents=True)
    (inner / "model.mlmodel").write_bytes(data)
    (inner / "weights" / "weight.bin").write_bytes((COMPANIONS / "weight.bin").read_bytes())
    session = EmulatedPackage(folder / "a.mlpackage")
    session.run(np.zeros((1, 3, 32, 32), np.float32))
    session.close()


# ---------------------------------------------------------------- training


def config(data: bytes, folder: Path) -> None:
    """Read a training config."""
    from edgedenoise.training.config.config import config_of
    from edgedenoise.training.config.text import read_toml

    (folder / "c.toml").write_bytes(data)
    config_of(read_toml(folder / "c.toml"), where="c.toml")


def checkpoint(data: bytes, folder: Path) -> None:
    """Read a checkpoint, and build its network."""
    from edgedenoise.training.checkpoint import kept_network, read_checkpoint

    path = folder / "a.safetensors"
    path.write_bytes(data)
    kept_network(read_checkpoint(path), source=path)


def with_header(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return safetensors data whose header, or the config in it, was changed as JSON, or the mutated bytes."""
    if chance.random() < 0.4:
        return changed(data, chance, corpus)
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    if chance.random() < 0.6:
        config_text = json.dumps(changed_json(json.loads(header["__metadata__"]["config"]), chance))
        header["__metadata__"]["config"] = config_text
    else:
        header = changed_json(header, chance)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def log(data: bytes, folder: Path) -> None:
    """Read the log of a run."""
    from edgedenoise.training.loop.logs import read_columns

    (folder / "log.csv").write_bytes(data)
    read_columns(folder / "log.csv")


def image_list(data: bytes, folder: Path) -> None:
    """Read a list of images, of which those of the sound list exist."""
    (folder / "sub").mkdir()
    for name in ("a.png", "sub/b.jpg"):
        (folder / name).touch()
    (folder / "list.txt").write_bytes(data)
    images_of(folder / "list.txt")


@cache
def targets() -> dict[str, Target]:
    """Return all targets by the name of their folder in the corpus."""
    return {
        "PNG": Target(image, with_checksums),
        "JPEG": Target(image),
        "TIFF": Target(image, needs=("tifffile", "imagecodecs")),
        "WebP": Target(image),
        "GIF": Target(image),
        "BMP": Target(image),
        "PPM": Target(image),
        "AVIF": Target(image, needs=("pillow_heif",)),
        "HEIF": Target(image, needs=("pillow_heif",)),
        "raw": Target(raw, needs=("rawpy", "tifffile", "imagecodecs")),
        "manifest": Target(manifest),
        "bundle": Target(whole_bundle),
        "metadata": Target(metadata),
        "archive": Target(archive, rezipped),
        "engine record": Target(engine_record),
        "set": Target(calibration_set),
        "ranges": Target(ranges, needs=("onnx",)),
        "histograms": Target(lambda data, _: from_bytes(data), rezipped),
        "npy": Target(lambda data, _: read_array(data, "a.npy")),
        "npz": Target(lambda data, _: read_arrays(data, "a.npz"), rezipped),
        "ONNX": Target(onnx_model),
        "ONNX graph": Target(onnx_graph, needs=("onnx",)),
        "OpenVINO IR": Target(openvino_ir, needs=("openvino",)),
        "Core ML": Target(core_ml, needs=("coremltools", "onnx")),
        "config": Target(config, needs=("torch",)),
        "checkpoint": Target(checkpoint, with_header, needs=("torch",)),
        "log": Target(log, needs=("torch",)),
        "list": Target(image_list),
    }
