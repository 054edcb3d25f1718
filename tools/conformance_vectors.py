"""Write the vectors that every runtime wrapper is held to: `python tools/conformance_vectors.py`.

`runtimes/conformance/README.md` describes the files. Each value is computed by the package itself. A test compares the
committed files with what this script computes, so that they cannot become stale.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import edgedenoise
from edgedenoise.bundles.archive import unpack
from edgedenoise.bundles.manifest_json import parse_manifest
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.image import from_unit_as, to_unit
from edgedenoise.imaging.normalize import Normalization, statistics
from edgedenoise.imaging.tiling import MEMORY_SHARE, Tiling, auto_tile, plan_tiles, reflected
from edgedenoise.noise.level_estimator import LevelEstimator
from edgedenoise.runtimes.choosing import choose
from edgedenoise.runtimes.noise_plane import noise_of, stated_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runtimes" / "conformance"
WEIGHTS = ROOT / "runtimes" / "web" / "src" / "level_estimator_weights.ts"
TINY = ROOT / "tests" / "fixtures" / "tiny.edge"
PRETRAINED = ROOT / "edgedenoise" / "bundles" / "pretrained"
DTYPES = {"uint8": "u8", "uint16": "u16", "float32": "f32"}


class Arrays:
    """Raw little-endian arrays in one file, one after another; each begins at a multiple of four bytes."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        """Append an array, and return where it is."""
        self._stream.write(b"\0" * (-self._stream.tell() % 4))
        offset = self._stream.tell()
        self._stream.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        return {"offset": offset, "type": DTYPES[array.dtype.name], "shape": list(array.shape)}

    @property
    def content(self) -> bytes:
        """All arrays."""
        return self._stream.getvalue()


def main() -> None:
    """Write all vectors."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in vectors().items():
        (FOLDER / name).write_bytes(content)
    WEIGHTS.write_text(estimator_weights(), encoding="utf-8")


def vectors() -> dict[str, bytes]:
    """Return the content of each file by its name in the folder."""
    arrays = Arrays()
    sections = {
        "tiling": tiling(),
        "normalization": normalization(arrays),
        "rounding": rounding(arrays),
        "noise": noise(arrays),
        "manifests": manifests(),
        "archives": archives(),
        "choosing": choosing(),
        "networks": networks(arrays),
    }
    files = {f"{name}.json": _json(section) for name, section in sections.items()}
    return {**files, "arrays.bin": arrays.content}


def _json(value: object) -> bytes:
    """Return JSON with one case per line, so that changes can be read."""
    lines = [
        f" {json.dumps(key)}: [\n  " + ",\n  ".join(json.dumps(case) for case in cases) + "\n ]"
        for key, cases in dict(value).items()  # type: ignore[call-overload]
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def tiling() -> dict[str, list[Any]]:
    """Return plans, automatic tiles and mirrored indices."""
    plans, autos = [], []
    needs = [(0, 1, 300), (8, 1, 1280), (17, 2, 190), (21, 2, 270), (25, 4, 280), (13, 8, 900)]
    sizes = [(1, 1), (31, 47), (64, 64), (100, 333), (1000, 1000), (3000, 4000), (1080, 1920)]
    for halo, multiple, per_px in needs:
        need = Tiling(halo_px=halo, multiple_of=multiple, bytes_per_px=per_px)
        given = {"halo_px": halo, "multiple_of": multiple, "bytes_per_px": per_px}
        for height, width in sizes:
            for tile, top in ((0, 0), (max(32, multiple), 0), (512, 0), (97, 16 if height > 16 else 0)):
                plan = plan_tiles(height, width, need, tile, top=top)
                plans.append(
                    {
                        **given,
                        "height": height,
                        "width": width,
                        "tile": tile,
                        "top": top,
                        "margin_px": plan.margin_px,
                        "tile_height": plan.tile_height,
                        "tile_width": plan.tile_width,
                        "rows": plan.rows,
                        "columns": plan.columns,
                    }
                )
            for tile_bytes in (1 << 20, 32 << 20, 96 << 20, 1 << 30):
                tile = auto_tile(height, width, need, tile_bytes * MEMORY_SHARE)
                autos.append({**given, "height": height, "width": width, "tile_bytes": tile_bytes, "tile": tile})
    mirrors = [
        {"start": start, "stop": stop, "size": size, "indices": reflected(start, stop, size).tolist()}
        for start, stop, size in ((-3, 8, 5), (-7, 9, 2), (-4, 4, 1), (0, 3, 3), (-12, 20, 4), (5, 17, 10))
    ]
    return {"plans": plans, "automatic": autos, "mirrored": mirrors}


def image_of(height: int, width: int, *, sigma: float, seed: int, gray: bool = False) -> NDArray[np.uint8]:
    """Return an 8-bit image of gradients and edges with noise, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    clean = np.stack([40 + 150 * x / width, 60 + 120 * y / height, 90 + 60 * ((x // 9 + y // 7) % 2)], axis=2)
    noisy = clean + rng.normal(0, sigma, clean.shape)
    if gray:
        noisy = noisy[..., :1].repeat(3, axis=2)
    return np.clip(np.floor(noisy + 0.5), 0, 255).astype(np.uint8)


def normalization(arrays: Arrays) -> dict[str, list[Any]]:
    """Return statistics of images, and some of their normalized values."""
    small = image_of(15, 21, sigma=12, seed=1)
    dark = np.zeros((20, 30, 3), np.uint8)
    dark[7, 9] = 255
    images = {
        "8 bits": small,
        "16 bits": (small.astype(np.uint16) * 257 + 3).clip(0, 65535).astype(np.uint16),
        "floats": (small.astype(np.float32) / np.float32(255) * np.float32(1.2) - np.float32(0.1)),
        "highlight": dark,
        "flat": np.full((5, 7, 3), 93, np.uint8),
    }
    kinds = [Normalization("unit"), Normalization("whole-image"), Normalization("whole-image-bounded", 4.0)]
    cases = []
    for name, image in images.items():
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        placed = arrays.add(planes)
        white = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
        for kind in kinds:
            stats = statistics(planes, kind, white=white)
            unit = np.ascontiguousarray(to_unit(image).transpose(2, 0, 1))
            cases.append(
                {
                    "name": name,
                    "image": placed,
                    "kind": kind.kind,
                    "limit": kind.limit,
                    "mean": stats.mean.tolist(),
                    "std": stats.std.tolist(),
                    "normalized": arrays.add(stats.apply(unit)),
                }
            )
    return {"cases": cases}


def rounding(arrays: Arrays) -> dict[str, list[Any]]:
    """Return how floats become stored samples: clipped, rounded half up; gray images take the mean of the channels."""
    rng = np.random.default_rng(2)
    ties = np.array([0, 1, -0.5, 1.5, 0.5 / 255, 1.5 / 255, 127.5 / 255, 254.5 / 255, 0.5 / 65535, 32767.5 / 65535])
    unit = np.concatenate([ties, rng.uniform(-0.2, 1.2, 80)]).astype(np.float32).reshape(1, 30, 3)
    placed = arrays.add(np.ascontiguousarray(unit.transpose(2, 0, 1)))
    cases = []
    for dtype in (np.uint8, np.uint16, np.float32):
        for gray in (False, True):
            stored = from_unit_as(unit, np.dtype(dtype), 3, gray=gray)
            cases.append({"unit": placed, "gray": gray, "stored": arrays.add(stored.transpose(2, 0, 1))})
    return {"cases": cases}


def noise(arrays: Arrays) -> dict[str, list[Any]]:
    """Return estimated and stated noise, and the fourth input channel."""
    images = {
        "weak": image_of(48, 64, sigma=3, seed=3),
        "strong": image_of(64, 48, sigma=20, seed=4),
        "gray": image_of(48, 48, sigma=8, seed=5, gray=True),
        "nearly clean": image_of(48, 48, sigma=0.2, seed=6),
        "small": image_of(9, 21, sigma=6, seed=7),
    }
    cases = []
    for name, image in images.items():
        planes = arrays.add(np.ascontiguousarray(image.transpose(2, 0, 1)))
        height, width = image.shape[:2]
        for stated in (None, 7.5) if name == "weak" else (None,):
            found = noise_of(to_unit(image)) if stated is None else stated_noise(stated, height, width)
            cases.append(
                {
                    "name": name,
                    "image": planes,
                    "stated_lsb": stated,
                    "curve": found.curve.sigma.tolist(),
                    "rms_lsb": found.rms_lsb,
                    "unchanged": found.is_negligible,
                    "strength": 1.75,
                    "plane": arrays.add(found.plane(1.75)),
                }
            )
    # Of large images, some blocks only are judged. The image is made by the reader: pixel (c, y, x) has this value.
    height, width = 1040, 1200
    made = made_image(height, width)
    found = noise_of(to_unit(made))
    rule = "(((y * 1200 + x) * 3 + c) * 1664525 + 1013904223) mod 2^32, its highest 5 bits + 64 + x mod 128"
    large = {"height": height, "width": width, "rule": rule}
    return {"cases": cases, "large": [{**large, "curve": found.curve.sigma.tolist(), "rms_lsb": found.rms_lsb}]}


def made_image(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image that a rule of whole numbers makes."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint64)
    number = (((y * width + x) * 3 + c) * 1664525 + 1013904223) % (1 << 32)
    return np.asarray((number >> 27) + 64 + x % 128, np.uint8)


def _code(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except EdgeDenoiseError as error:
        return {"error": type(error).__name__, "code": error.exit_code}
    return {"error": None, "code": 0}


def manifests() -> dict[str, list[Any]]:
    """Return manifests, good and bad, and the error that each must cause."""
    return {
        "cases": [
            {
                "name": name,
                "base64": base64.b64encode(data).decode(),
                **_code(lambda data=data: parse_manifest(data, Path("manifest.json"), Path("bundle"))),  # type: ignore[misc]
            }
            for name, data in manifest_cases()
        ]
    }


def manifest_cases() -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of manifests."""
    good = {**json.loads((TINY / "manifest.json").read_bytes()), "about": "é", "files": {}}
    yield "as written", (TINY / "manifest.json").read_bytes()
    for name in ("edge-tiny", "edge-level"):
        yield name, (PRETRAINED / f"{name}.edge" / "manifest.json").read_bytes()

    def sealed(changes: dict[str, Any], *, remove: str | None = None) -> bytes:
        values = {key: value for key, value in {**good, **changes}.items() if key != remove}
        return _sealed(values)

    first = good["variants"][0]
    changes: dict[str, dict[str, Any]] = {
        "unknown fields": {"later": {"z": [1, 1.0, -0.0, 1e16, 1e-5, 9.5e-7, 1e22], "é\u2028😀": '\x01\x1f\x7f"\\/\b'}},
        "another schema": {"schema": "edgedenoise-bundle/2"},
        "schema of another type": {"schema": 1},
        "name of another type": {"name": 5},
        "float where an integer is wanted": {"tiling": {"halo_px": 8.0}},
        "Boolean where an integer is wanted": {"tiling": {"halo_px": True}},
        "halo out of range": {"tiling": {"halo_px": 2000}},
        "defaults of tiling": {"tiling": {"halo_px": 8}},
        "blended tiles in the schema of exact ones": {"tiling": {"halo_px": 8, "blend_px": 8}},
        "zero multiple": {"tiling": {"halo_px": 8, "multiple_of": 0}},
        "null tiling": {"tiling": None},
        "unknown normalization": {"normalization": "per-tile"},
        "limit without bound": {"normalization_limit": 4.0},
        "bound without limit": {"normalization": "whole-image-bounded"},
        "bounded": {"normalization": "whole-image-bounded", "normalization_limit": 4},
        "limit out of range": {"normalization": "whole-image-bounded", "normalization_limit": 0.01},
        "variants missing": {"variants": None},
        "variant without path": {"variants": [{key: first[key] for key in first if key != "path"}]},
        "variant of a later version": {"variants": [{**first, "precision": "int4"}]},
        "variant outside its folder": {"variants": [{**first, "path": "elsewhere/model.onnx"}]},
        "variant with a bad name": {"variants": [{**first, "name": "../x", "path": "../x/model.onnx"}]},
        "variant with a path upwards": {"variants": [{**first, "path": f"{first['name']}/../../x"}]},
        "later variant with a path upwards": {"variants": [{**first, "precision": "int4", "path": "../x"}]},
        "shapes": {"variants": [{**first, "shapes": {"kind": "fixed", "sides_px": [256]}}]},
        "wrong shapes are of a later version": {"variants": [{**first, "shapes": {"kind": "fixed", "sides_px": []}}]},
        "noise level": {"noise_level": {"estimator": "edgedenoise-level", "version": 1, "gain": 10}},
        "gain of zero": {"noise_level": {"estimator": "edgedenoise-level", "version": 1, "gain": 0}},
        "file upwards": {"files": {"../x": {"sha256": "0", "size_bytes": 1}}},
        "file with an absolute path": {"files": {"/x": {"sha256": "0", "size_bytes": 1}}},
        "file with a drive": {"files": {"C:x": {"sha256": "0", "size_bytes": 1}}},
        "file with a backslash": {"files": {"a\\b": {"sha256": "0", "size_bytes": 1}}},
        "file with a control character": {"files": {"a\u0007": {"sha256": "0", "size_bytes": 1}}},
        "file with an empty part": {"files": {"a//b": {"sha256": "0", "size_bytes": 1}}},
        "file with a dot": {"files": {"./a": {"sha256": "0", "size_bytes": 1}}},
        "file without a size": {"files": {"a": {"sha256": "0"}}},
        "negative size": {"files": {"a": {"sha256": "0", "size_bytes": -1}}},
    }
    for name, change in changes.items():
        yield name, sealed(change)
    for missing in ("schema", "name", "network", "tiling", "normalization", "variants"):
        yield f"without {missing}", sealed({}, remove=missing)
    yield "edited by hand", json.dumps({**good, "name": "other"}).encode()
    yield "without digest", json.dumps({**good, "digest": ""}).encode()
    yield "digest of another type", json.dumps({**good, "digest": 5}).encode()
    whole = (TINY / "manifest.json").read_bytes()
    yield "other spaces and order", json.dumps(dict(reversed(good.items())), indent=7).encode()
    yield "other spelling of numbers", whole.replace(b"44.39", b"4439E-2").replace(b"0.36", b"3.60e-01")
    yield "cut short", whole[:-30]
    yield "empty", b""
    yield "no object", b"[]"
    yield "no UTF-8", whole.replace(b'"tiny"', b'"t\xffny"')
    yield "byte order mark", b"\xef\xbb\xbf" + whole
    yield "trailing comma", whole.rstrip()[:-1] + b",}"
    yield "trailing text", whole + b"x"
    yield "deep", b'{"schema":' + b"[" * 5000 + b"]" * 5000 + b"}"
    yield "number out of range", whole.replace(b"44.39", b"1e999")
    yield "half a surrogate pair", whole.replace(b'"tiny"', b'"\\ud800"')


def _sealed(values: dict[str, Any]) -> bytes:
    import hashlib

    content = msgspec.json.encode({**values, "digest": ""}, order="sorted")
    digest = hashlib.sha256(content).hexdigest()
    return msgspec.json.encode({**values, "digest": digest})


def archives() -> dict[str, list[Any]]:
    """Return archives, good and hostile, and the error that each must cause."""
    import tempfile

    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, data) in enumerate(archive_cases()):
            source, target = Path(scratch) / f"{number}.edge", Path(scratch) / f"{number}"
            source.write_bytes(data)
            found = _code(lambda source=source, target=target: unpack(source, target))  # type: ignore[misc]
            cases.append({"name": name, "base64": base64.b64encode(data).decode(), **found})
    return {"cases": cases}


def archive_cases() -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of archives of a bundle whose one file is a text."""
    import hashlib

    good = json.loads((TINY / "manifest.json").read_bytes())
    text = b"0123456789" * 20
    record = {"sha256": hashlib.sha256(text).hexdigest(), "size_bytes": len(text)}
    manifest = _sealed({**good, "variants": [], "files": {"a/b.txt": record}})
    files = {"manifest.json": manifest, "a/b.txt": text}
    yield "stored", archive(files)
    yield "deflated", archive(files, zipfile.ZIP_DEFLATED)
    yield "with a comment", archive(files, comment=b"made by hand")
    yield "with bytes before it", b"#!/bin/sh\n" + archive(files)
    yield "with a file that is not recorded", archive({**files, "extra.txt": b"x"})
    yield "with a folder", archive({**files, "a/": b""})
    yield "bzip2", archive(files, zipfile.ZIP_BZIP2)
    yield "changed file", archive({**files, "a/b.txt": text[::-1]})
    yield "longer file", archive({**files, "a/b.txt": text + b"x"})
    yield "missing file", archive({"manifest.json": manifest})
    yield "without manifest", archive({"a/b.txt": text})
    yield "no manifest", archive({**files, "manifest.json": b"{}"})
    yield "name upwards", archive({**files, "../x": b"x"})
    yield "absolute name", archive({**files, "/x": b"x"})
    yield "same name in capitals", archive({**files, "A/B.TXT": text})
    yield "bomb", archive({**files, "zeros": b"\0" * (3 << 20)}, zipfile.ZIP_DEFLATED)
    yield "link", archive(files, link="a/b.txt")
    yield "cut short", archive(files)[:-40]
    yield "empty", b""
    yield "no archive", b"x" * 1000
    plain = archive(files)
    place = plain.index(text)
    yield "flipped bit", plain[:place] + bytes([plain[place] ^ 1]) + plain[place + 1 :]
    yield "other name in the header", plain.replace(b"a/b.txt", b"a/c.txt", 1)
    end = plain.rindex(b"PK\5\6")
    yield "more files than accepted", plain[: end + 10] + b"\xff\xff" + plain[end + 12 :]


def archive(
    files: dict[str, bytes], method: int = zipfile.ZIP_STORED, *, comment: bytes = b"", link: str | None = None
) -> bytes:
    """Return a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o120777 if name == link else 0o100644) << 16
            info.create_system = 3
            info.compress_type = method
            out.writestr(info, content)
        out.comment = comment
    return stream.getvalue()


def choosing() -> dict[str, list[Any]]:
    """Return the variant that a manifest gives for a precision, on ONNX Runtime on a CPU without saturation."""
    from dataclasses import replace

    from edgedenoise.bundles.bundle import Bundle

    cases = []
    for name in ("edge-tiny", "edge-level", "tiny"):
        folder = TINY if name == "tiny" else PRETRAINED / f"{name}.edge"
        bundle = Bundle.open(folder)
        plain = [
            msgspec.structs.replace(one, loss=None, fidelity_db=39.0) if one.encoding else one
            for one in bundle.manifest.variants
        ]
        lossy = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, variants=plain))
        untrained = replace(lossy, manifest=msgspec.structs.replace(lossy.manifest, training=None))
        for what, one in (("", bundle), (" without loss", lossy), (" without training", untrained)):
            values = {
                **msgspec.to_builtins(one.manifest),
                "files": {},
                "about": "",
                "parity": None,
                "calibration": None,
            }
            for precision in ("auto", "fp32", "int8", "fp16"):
                found: dict[str, Any] = {"variant": None, "passed_over": []}
                try:
                    choice = choose(one, "onnxruntime", precision, "cpu")  # type: ignore[arg-type]
                    found = {"variant": choice.variant.name, "passed_over": [p.variant for p in choice.passed_over]}
                except EdgeDenoiseError as error:
                    found["error"] = type(error).__name__
                manifest = base64.b64encode(_sealed(_without_none(values))).decode()
                cases.append({"name": f"{name}{what}", "manifest": manifest, "precision": precision, **found})
    return {"cases": cases}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def networks(arrays: Arrays) -> dict[str, list[Any]]:
    """Return images and what the bundles of the repository make of them."""
    cases = []
    small = image_of(37, 45, sigma=14, seed=8)
    gray = image_of(32, 50, sigma=14, seed=9, gray=True)
    images = {
        "colours": small,
        "gray": gray,
        "16 bits": small.astype(np.uint16) * 257,
        "floats": small.astype(np.float32) / np.float32(255),
    }
    placed = {name: arrays.add(np.ascontiguousarray(image.transpose(2, 0, 1))) for name, image in images.items()}
    runs = [
        (TINY, "colours", 0, 1.0),
        (TINY, "colours", 32, 1.0),
        (TINY, "floats", 0, 0.6),
        (PRETRAINED / "edge-tiny.edge", "colours", 0, 1.0),
        (PRETRAINED / "edge-tiny.edge", "colours", 34, 0.5),
        (PRETRAINED / "edge-tiny.edge", "gray", 0, 1.0),
        (PRETRAINED / "edge-tiny.edge", "16 bits", 0, 1.0),
        (PRETRAINED / "edge-level.edge", "floats", 0, 1.0),
        (PRETRAINED / "edge-level.edge", "colours", 40, 1.5),
        (PRETRAINED / "edge-level.edge", "gray", 0, 1.0),
    ]
    for folder, name, tile, strength in runs:
        for precision in ("fp32", "int8"):
            options = {"runtime": "onnxruntime", "device": "cpu", "tile": tile, "strength": strength, "threads": 1}
            with edgedenoise.load(folder, precision=precision, **options) as denoiser:  # type: ignore[arg-type]
                answer = denoiser(images[name])
                case = {
                    "bundle": folder.relative_to(ROOT).as_posix(),
                    "name": name,
                    "image": placed[name],
                    "precision": precision,
                    "tile": tile,
                    "strength": strength,
                    "answer": arrays.add(np.ascontiguousarray(answer.transpose(2, 0, 1))),
                    "noise_lsb": denoiser.last_noise,
                }
            cases.append(case)
    return {"cases": cases}


def estimator_weights() -> str:
    """Return the weights of the noise-level estimator as a module in TypeScript."""
    estimator = LevelEstimator.shipped()
    arrays: list[tuple[str, NDArray[np.float32]]] = []
    for name, network in (("block", estimator.block), ("picture", estimator.image)):
        if network is None:
            continue
        arrays += [(f"{name}.mean", network.mean), (f"{name}.deviation", network.deviation)]
        for number, (weight, bias) in enumerate(network.layers):
            arrays += [(f"{name}.weight{number}", weight), (f"{name}.bias{number}", bias)]
    data = base64.b64encode(b"".join(array.astype("<f4").tobytes() for _, array in arrays)).decode()
    names = "\n".join(f'    ["{name}", {array.size}],' for name, array in arrays)
    lines = "\n".join(f'    "{data[start : start + 112]}",' for start in range(0, len(data), 112))
    return (
        "/** Weights of edgedenoise/noise/level_estimator.npz, written by tools/conformance_vectors.py. */\n"
        "export const WEIGHTS = {\n"
        f"  arrays: [\n{names}\n  ] as [string, number][],\n"
        f'  data: [\n{lines}\n  ].join(""),\n'
        "};\n"
    )


if __name__ == "__main__":
    sys.exit(main())
