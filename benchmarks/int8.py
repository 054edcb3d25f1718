"""What 8 bits cost, by scheme, calibrator and calibration set: `python benchmarks/int8.py B.edge ... --out DIR`.

Each bundle's float graph is quantized again and again, and each result runs over noisy images with ground truth:
how many dB of PSNR it loses to float, and how far it is from float at all. Ours in exact arithmetic (the oracle),
which CPU kernels equal; beside them what ONNX Runtime's `quantize_static` and NNCF's `quantize` give by default, on the
same crops, as their own runtimes run them.

Calibrated on --calibrate, noisy images, or on --calibrate-clean, to which noise of several levels is added.
Images are read from $EDGEDENOISE_DATA. Tables go to stdout, `int8.json` to DIR.
"""

from __future__ import annotations

import peers  # before numpy is loaded: it tells numpy the number of threads

# isort: split

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from camera_noise import DATA
from students import MAIN_SETS, SETS, chosen_sets, open_bundles, positive

from edgedenoise.bundles.manifest import Variant
from edgedenoise.calibration.calibrate import (
    FLOAT_VARIANT,
    TRAINED_RANGES_FILE,
    float_graph_file,
    load_onnx,
    stored_ranges,
)
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.ranges import Ranges, measure_histograms
from edgedenoise.calibration.schemes import SCHEMES, scheme_named
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.files import check_writable, write_bytes
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.imaging.metrics import psnr
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray
    from peers import Pair

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.histograms import Histogram

CROPS = 128
SIZES = (8, 32, 128, 512)
CALIBRATORS = ("mse", "entropy", "percentile-99.99", "percentile-99.9")
LADDER = (0.0, 0.3, 0.6, 0.9, 1.2)
LOW_NOISE = (0.0, 0.1)
ORACLE = SessionOptions(fused=False, threads=1)
FUSED = SessionOptions(threads=1)


@dataclass(frozen=True)
class Loss:
    """A quantized graph on a set."""

    drop_db: float
    """Mean PSNR of float, less its own."""
    to_float_db: float
    """PSNR to the float answers, mean over images, before rounding."""


@dataclass(frozen=True)
class Row:
    """One way to quantize one network."""

    bundle: str
    how: str
    size_kb: float
    losses: dict[str, Loss]
    """By set."""


@dataclass
class Report:
    """What `int8.json` holds; written after each bundle."""

    every: int
    calibrated_on: str
    rows: list[Row] = field(default_factory=list)
    floats_db: dict[str, dict[str, float]] = field(default_factory=dict)
    """Bundle -> set -> mean PSNR in float."""
    left_out: list[str] = field(default_factory=list)
    environment: Environment | None = None


class Pictures:
    """The sets, and what float answers to them."""

    def __init__(self, bundle: Bundle, sets: dict[str, list[Pair]]) -> None:
        self.bundle, self.sets = bundle, sets
        variant = bundle.variant(FLOAT_VARIANT)
        with CheckedSession(OnnxRuntime().open(variant, bundle.variant_file(variant), "cpu", FUSED)) as session:
            self.answers = {name: [self.answer(session, noisy) for noisy, _ in pairs] for name, pairs in sets.items()}
        self.float_db = {
            name: float(np.mean([_psnr(a, clean) for a, (_, clean) in zip(self.answers[name], pairs, strict=True)]))
            for name, pairs in sets.items()
        }

    def answer(self, session: CheckedSession, noisy: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (3, H, W) in [0, 1]."""
        pixels = np.ascontiguousarray(to_unit(noisy).transpose(2, 0, 1))
        manifest = self.bundle.manifest
        return np.clip(run_image(session, pixels, manifest.normalization, manifest.tiling), 0, 1)

    def losses(self, session: CheckedSession) -> dict[str, Loss]:
        found = {}
        for name, pairs in self.sets.items():
            own, close = [], []
            for (noisy, clean), wanted in zip(pairs, self.answers[name], strict=True):
                answer = self.answer(session, noisy)
                own.append(_psnr(answer, clean))
                close.append(-10 * np.log10(np.mean(np.square(answer - wanted, dtype=np.float64)) + 1e-20))
            found[name] = Loss(self.float_db[name] - float(np.mean(own)), float(np.mean(close)))
        return found


def _psnr(unit: NDArray[np.float32], clean: NDArray[np.uint8]) -> float:
    return psnr(from_unit(unit.transpose(1, 2, 0), np.uint8), clean)


# ---------------------------------------------------------------- ways to quantize


@dataclass(frozen=True)
class Crops:
    """What to calibrate on."""

    folder: Path
    levels: tuple[float, ...]
    """Of synthetic noise, for clean images; empty for noisy ones."""

    def inputs(self, bundle: Bundle, count: int, levels: tuple[float, ...] | None = None) -> Iterator[Any]:
        chosen = CalibrationSet.from_folder(self.folder, count, noise_levels=self.levels if levels is None else levels)
        manifest = bundle.manifest
        return (x for x, _ in chosen.inputs(self.folder, manifest.normalization, manifest.tiling))


def ours(bundle: Bundle, crops: Crops) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield every way that is ours: what it is called, and the graph."""
    model = load_onnx(float_graph_file(bundle))
    if bundle.has(TRAINED_RANGES_FILE):
        for scheme in SCHEMES:
            yield f"trained in 8 bits, {scheme.name}", encode(model, stored_ranges(bundle), scheme)
    measured = {count: _histograms(bundle, model, crops.inputs(bundle, count), count) for count in SIZES}
    for scheme in SCHEMES:
        yield f"{scheme.name} minmax, {CROPS} crops", encode(model, _ranges(measured[CROPS], MINMAX.name), scheme)
    default = scheme_named("u8s7")
    for name in CALIBRATORS:
        yield f"u8s7 {name}, {CROPS} crops", encode(model, _ranges(measured[CROPS], name), default)
    for count in SIZES:
        if count != CROPS:
            yield f"u8s7 minmax, {count} crops", encode(model, _ranges(measured[count], MINMAX.name), default)
    if crops.levels:
        low = _histograms(bundle, model, crops.inputs(bundle, CROPS, LOW_NOISE), CROPS)
        yield f"u8s7 minmax, {CROPS} crops of weak noise alone", encode(model, _ranges(low, MINMAX.name), default)


def _histograms(bundle: Bundle, model: onnx.ModelProto, inputs: Iterator[Any], count: int) -> dict[str, Histogram]:
    return measure_histograms(model, inputs, margin_px=bundle.manifest.tiling.margin_px, total=count)


def _ranges(histograms: dict[str, Histogram], calibrator: str) -> Ranges:
    choose = calibrator_named(calibrator).choose
    image = next(iter(histograms))  # the input, which no calibrator clips
    tensors = {name: one.range if name == image else choose(one) for name, one in histograms.items()}
    return Ranges("", 0, tensors)


def onnxruntime_default(bundle: Bundle, crops: Crops, out: Path) -> None:
    """Write what `onnxruntime.quantization.quantize_static` makes by default."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = crops.inputs(bundle, CROPS)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._inputs, None)
            return None if found is None else {"image": found}

    quantize_static(float_graph_file(bundle), out, Reader())


def nncf_default(bundle: Bundle, crops: Crops, out: Path) -> None:
    """Write what `nncf.quantize` makes of the float graph by default, as OpenVINO IR."""
    import nncf
    import openvino

    model = openvino.Core().read_model(float_graph_file(bundle))
    dataset = nncf.Dataset(list(crops.inputs(bundle, CROPS)))
    openvino.save_model(nncf.quantize(model, dataset, subset_size=CROPS), out, compress_to_fp16=False)


# ---------------------------------------------------------------- the command


def measure(bundle: Bundle, crops: Crops, sets: dict[str, list[Pair]], report: Report) -> None:
    name = bundle.source.stem
    pictures = Pictures(bundle, sets)
    report.floats_db[name] = pictures.float_db
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        for how, model in ours(bundle, crops):
            path.write_bytes(model.SerializeToString())
            _add(report, name, how, path, pictures, OnnxRuntime(), ORACLE)
        path = Path(scratch) / "ort.onnx"
        onnxruntime_default(bundle, crops, path)
        _add(report, name, "ONNX Runtime's quantize_static, as it is", path, pictures, OnnxRuntime(), FUSED)
        path = Path(scratch) / "nncf.xml"
        try:
            nncf_default(bundle, crops, path)
        except ImportError as error:
            report.left_out.append(f"NNCF was left out: {error}")
            return
        _add(report, name, "NNCF's quantize, as it is", path, pictures, OpenVino(), FUSED)


def _add(report: Report, bundle: str, how: str, path: Path, pictures: Pictures, runtime: Any, options: Any) -> None:
    variant = Variant("candidate", runtime.name, "int8", path.name)
    with CheckedSession(runtime.open(variant, path, "cpu", options)) as session:
        losses = pictures.losses(session)
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    report.rows.append(Row(bundle, how, sum(file.stat().st_size for file in files) / 1024, losses))
    told = ", ".join(f"{name} {one.drop_db:+.3f} dB" for name, one in losses.items())
    peers.tell(f"{bundle}, {how}: {told}")


def text(report: Report) -> str:
    sets = list(report.rows[0].losses)
    header = ["how", *[f"{name} {what}" for name in sets for what in ("lost dB", "to float dB")], "KB"]
    parts = []
    for bundle, floats in report.floats_db.items():
        rows = [
            [
                row.how,
                *[
                    cell
                    for name in sets
                    for cell in (f"{row.losses[name].drop_db:.3f}", f"{row.losses[name].to_float_db:.1f}")
                ],
                f"{row.size_kb:.0f}",
            ]
            for row in report.rows
            if row.bundle == bundle
        ]
        told = ", ".join(f"{name} {db:.2f} dB" for name, db in floats.items())
        parts.append(f"{bundle}, float: {told}\n\n{table(header, rows)}")
    return "\n\n".join([*parts, f"calibrated on {report.calibrated_on}", *report.left_out])


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What 8 bits cost.", allow_abbrev=False)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE.edge")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for int8.json")
    parser.add_argument(
        "--sets", type=chosen_sets, default=[SETS[name] for name in MAIN_SETS], metavar="NAME,NAME",
        help=f"of {', '.join(SETS)}",
    )  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--calibrate", type=Path, metavar="DIR", help="noisy images to calibrate on")
    source.add_argument(
        "--calibrate-clean", type=Path, metavar="DIR", default=DATA / "free_photos",
        help="clean images to add noise to",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    crops = Crops(options.calibrate, ()) if options.calibrate else Crops(options.calibrate_clean, LADDER)
    noise = f" with synthetic noise of levels {', '.join(map(str, crops.levels))}" if crops.levels else ""
    report = Report(options.every, f"{crops.folder}{noise}")
    try:
        check_writable(options.out / "int8.json")
        bundles = open_bundles(options.bundles)
        sets = {chosen.name: chosen.read(options.every) for chosen in options.sets}
        for bundle in bundles:
            measure(bundle, crops, sets, report)
            report.environment = environment()
            data = msgspec.json.format(msgspec.json.encode(report), indent=1)
            write_bytes(options.out / "int8.json", data + b"\n")
    except EdgeDenoiseError as error:
        peers.tell(f"error: {error}")
        return error.exit_code
    print(text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
