"""Write the corpus of the fuzzer: small sound files of every kind that a command reads.

    python tests/fuzz/make_corpus.py

The files are committed, so that the same number is the same input on every machine: encoders change with their
versions. Run it again to add a kind, and commit the new files only.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import msgspec
import numpy as np
import pillow_heif
import tifffile
from fake_nvidia import RECORD
from fuzz_targets import resealed
from graphs import branched_graph
from image_files import exif_block, random_array
from PIL import Image
from raw_files import dng
from tiff_files import self_pointing, whole_file_tags

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import embedded_metadata
from edgedenoise.calibration.histograms import Histogram, to_bytes
from edgedenoise.exporting.onnx.graph import embed
from edgedenoise.imaging.codecs import encode_image
from edgedenoise.imaging.image import Image as EdgeImage
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.training.checkpoint import save_checkpoint
from edgedenoise.training.config.config import config_of
from edgedenoise.training.networks.families import build_network

if TYPE_CHECKING:
    import onnx

CONFIGS: dict[str, dict[str, Any]] = {
    "cbsn": {"network": "cbsn-24x4", "data": "noisy"},
    "qat-self": {"objective": "qat-self", "network": "cbsn-24x4", "init": "runs/a", "data": "noisy"},
    "supervised": {"objective": "supervised", "network": "edge-tiny", "clean": "clean"},
}
BUNDLE = HERE.parent / "fixtures" / "tiny.edge"
CORPUS = HERE / "corpus"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
PROFILE = b"profile" * 20


def frames() -> list[Image.Image]:
    """Return three images; new ones, because Pillow keeps options of an earlier format in them."""
    return [Image.fromarray(random_array((12, 17, 3), seed=seed)) for seed in range(3)]


def several(**options: Any) -> bytes:
    first, *later = frames()
    return stream_of(first, save_all=True, append_images=later, **options)


def stream_of(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.copy().save(stream, **options)
    return stream.getvalue()


def images() -> dict[str, bytes]:
    """Images of every format that Pillow writes."""
    colour, gray = frames()[0], frames()[0].convert("L")
    deep = Image.fromarray(random_array((9, 11), np.uint16))
    made = {
        "PNG/colour.png": stream_of(colour, format="PNG", exif=exif_block(), icc_profile=PROFILE),
        "PNG/palette.png": stream_of(colour.quantize(16), format="PNG", transparency=3),
        "PNG/gray-16.png": stream_of(deep, format="PNG"),
        "PNG/alpha.png": stream_of(colour.convert("RGBA"), format="PNG"),
        "PNG/animated.png": several(format="PNG", duration=40),
        "JPEG/baseline.jpg": stream_of(colour, format="JPEG", exif=exif_block(), xmp=XMP, comment=b"a comment"),
        "JPEG/progressive.jpg": stream_of(colour, format="JPEG", progressive=True, icc_profile=PROFILE),
        "JPEG/gray.jpg": stream_of(gray, format="JPEG", subsampling=0),
        "JPEG/cmyk.jpg": stream_of(colour.convert("CMYK"), format="JPEG"),
        "JPEG/several.jpg": several(format="MPO"),
        "WebP/lossy.webp": stream_of(colour, format="WEBP", exif=exif_block(), xmp=XMP),
        "WebP/lossless.webp": stream_of(colour.convert("RGBA"), format="WEBP", lossless=True),
        "WebP/animated.webp": several(format="WEBP", duration=40),
        "GIF/still.gif": stream_of(colour, format="GIF"),
        "GIF/animated.gif": several(format="GIF", duration=40, transparency=0),
        "BMP/colour.bmp": stream_of(colour, format="BMP"),
        "BMP/palette.bmp": stream_of(colour.quantize(16), format="BMP"),
        "PPM/colour.ppm": stream_of(colour, format="PPM"),
        "PPM/gray-16.pgm": b"P5\n# a comment\n4 3\n1023\n" + bytes(range(24)),
        "PPM/text.ppm": b"P3\n2 2\n255\n255 0 0 0 255 0\n0 0 255 9 8 7\n",
        "PPM/bits.pbm": b"P4\n9 2\n\xff\x80\x00\x80",
        "AVIF/colour.avif": stream_of(colour, format="AVIF"),
        "HEIF/colour.heic": heic(colour),
    }
    return made | tiffs()


def tiffs() -> dict[str, bytes]:
    """TIFF files of every layout."""
    colour = frames()[0]
    made = {
        f"TIFF/{name}.tif": stream_of(colour, format="TIFF", compression=name)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    }
    metadata = Metadata(icc=PROFILE, exif=exif_block(), xmp=XMP)
    made["TIFF/metadata.tif"] = encode_image(EdgeImage(np.asarray(colour), None, metadata, "PNG"), "TIFF")
    made["TIFF/pages.tif"] = several(format="TIFF", compression="tiff_lzw")
    made["TIFF/palette.tif"] = stream_of(colour.quantize(16), format="TIFF")
    deep, floats = random_array((10, 12, 3), np.uint16), np.linspace(0, 1, 240, dtype=np.float32).reshape(8, 10, 3)
    for name, array, options in (
        ("16-bit", deep, {}),
        ("16-bit-tiles", deep, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        ("16-bit-strips", deep, {"rowsperstrip": 3, "compression": "lzw"}),
        ("float", floats, {"compression": "zlib"}),
        ("big-endian", deep, {"byteorder": ">"}),
        ("bigtiff", deep, {"bigtiff": True}),
        ("planes", np.moveaxis(deep, 2, 0), {"planarconfig": "separate"}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, photometric="rgb", metadata=None, **options)
        made[f"TIFF/{name}.tif"] = stream.getvalue()
    made["TIFF/self-pointing.tif"], made["TIFF/whole-file.tif"] = self_pointing(40), whole_file_tags(40)
    with TemporaryDirectory() as scratch:
        made["raw/mosaic.dng"] = dng(Path(scratch) / "a.dng").read_bytes()
    return made


def heic(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream)
    return stream.getvalue()


def arrays() -> dict[str, bytes]:
    """NumPy files, sound ones and those whose header claims more than there is."""
    image = np.random.default_rng(0).random((3, 6, 8), np.float32)
    one = Histogram()
    one.add(np.arange(100, dtype=np.float32))
    made = {
        "npy/image.npy": npy(image),
        "npy/names.npy": npy(np.array(["a", "bc"])),
        "npz/arrays.npz": npz(a=np.zeros(3), b=np.ones((2, 2))),
        "histograms/one.npz": to_bytes({"image": one, "head": one}),
    }
    claims = {
        "huge": ("(3, 100000000, 100000)", "'<f4'", b""),
        "overflow": ("(4611686018427387904,)", "'<f4'", b""),
        "negative": ("(3, -1, 96)", "'<f4'", b""),
        "object": ("(3, 4, 4)", "'|O'", b"\x80\x04."),
        "structured": ("(3, 4, 4)", "[('a','<f4')]", bytes(192)),
        "nested": ("(" * 300, "'<f4'", b""),
        "scalar": ("()", "'<f4'", bytes(4)),
    }
    for name, (shape, kind, rest) in claims.items():
        text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
        text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
        made[f"npy/{name}.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest
    return made


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


def texts() -> dict[str, bytes]:
    """JSON, TOML, lists and logs."""
    bundle = Bundle.open(BUNDLE)
    calibration = {
        name: json.loads((BUNDLE / "calibration" / f"{name}.json").read_bytes()) for name in ("set", "ranges")
    }
    calibration["set"]["crops"] = calibration["set"]["crops"][:3]
    calibration["ranges"]["tensors"] = dict(list(calibration["ranges"]["tensors"].items())[:4])
    made = {f"{name}/{name}.json": json.dumps(value).encode() for name, value in calibration.items()}
    made["manifest/manifest.json"] = made["bundle/manifest.json"] = (BUNDLE / "manifest.json").read_bytes()
    for variant in bundle.manifest.variants:
        made[f"metadata/{variant.name}.json"] = embedded_metadata(bundle.manifest, variant)
    made["engine record/engine.json"] = msgspec.json.encode(RECORD)
    for name, values in CONFIGS.items():
        made[f"config/{name}.toml"] = config_of(values, where="it").to_toml().encode()
    made["config/tables.toml"] = b"a = 1979-05-27\n[b.c]\nd = [1, 2.5, {e = 1}]\n[[f]]\ng = '''x\ny'''\n"
    made["list/list.txt"] = b"# images\n\na.png\nsub/b.jpg\n"
    made["log/log.csv"] = b"step,seconds,loss\n1,0.500,0.25\n2,1.000,0.125\n3,1.500,nan\n"
    return made


def models() -> dict[str, bytes]:
    """Model files, and the files of weights that some of them need."""
    graph = branched_graph(width=4)
    bundle = Bundle.open(BUNDLE)
    embed(graph, embedded_metadata(bundle.manifest, bundle.variant("onnx-fp32")))
    made = {"ONNX/branched.onnx": graph.SerializeToString()}
    made |= {f"ONNX graph/{Path(name).name}": data for name, data in made.items()}
    return made | intermediate(graph) | package(graph) | checkpoints()


def intermediate(graph: onnx.ModelProto) -> dict[str, bytes]:
    """An OpenVINO IR, and the file of its weights."""
    import openvino

    with TemporaryDirectory() as scratch:
        model = openvino.Core().read_model(graph.SerializeToString(), b"")
        openvino.save_model(model, Path(scratch) / "model.xml", compress_to_fp16=False)
        return {
            "OpenVINO IR/branched.xml": (Path(scratch) / "model.xml").read_bytes(),
            "../companions/branched.bin": (Path(scratch) / "model.bin").read_bytes(),
        }


def package(graph: onnx.ModelProto) -> dict[str, bytes]:
    """A Core ML program, and the file of its weights."""
    from edgedenoise.bundles.manifest import InputShapes
    from edgedenoise.exporting.coreml.builder import _converted, _save
    from edgedenoise.runtimes.coreml.backend import coremltools_quietly

    with TemporaryDirectory() as scratch, coremltools_quietly() as coremltools:
        shapes = InputShapes("fixed", [32])
        folder = Path(scratch) / "a.mlpackage"
        _save(_converted(coremltools, graph, "fp32", shapes, "iOS17", 3, image=False), folder)
        inner = folder / "Data" / "com.apple.CoreML"
        return {
            "Core ML/branched.mlmodel": (inner / "model.mlmodel").read_bytes(),
            "../companions/weight.bin": (inner / "weights" / "weight.bin").read_bytes(),
        }


def checkpoints() -> dict[str, bytes]:
    config = config_of({"network": "cbsn-4x1", "data": "noisy", "first_weights": "he"}, where="it")
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.safetensors"
        save_checkpoint(path, config=config, step=3, network=build_network(config.spec, seed=0))
        return {"checkpoint/small.safetensors": path.read_bytes()}


def archives() -> dict[str, bytes]:
    """A bundle without models as an archive, stored and deflated."""
    names = ("MODEL_CARD.md", "calibration/set.json", "calibration/ranges.json")
    manifest = json.loads((BUNDLE / "manifest.json").read_bytes())
    manifest["files"], manifest["variants"] = {name: manifest["files"][name] for name in names}, []
    files = {"manifest.json": resealed(json.dumps(manifest).encode())} | {n: (BUNDLE / n).read_bytes() for n in names}
    made = {}
    for kind, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
        made[f"archive/{kind}.zip"] = stream.getvalue()
    return made


def main() -> None:
    """Write what is missing."""
    for name, data in (images() | arrays() | texts() | models() | archives()).items():
        path = CORPUS / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{len(data):7d} {name}")


if __name__ == "__main__":
    main()
