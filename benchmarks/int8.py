"""Measure the loss of INT8 by scheme, calibrator and calibration set: `python benchmarks/int8.py B.edge ...`.

The float graph of each bundle is quantized in many ways, and each result runs over noisy images with ground truth.
Measured are the PSNR lost against float and the PSNR to the float results. Our graphs run in the reference execution
(unfused W8A8), which CPU kernels equal; beside them are ONNX Runtime's `quantize_static` and NNCF's `quantize` with
their defaults, on the same crops and on their own runtimes.

Calibration uses --calibrate, noisy images, or --calibrate-clean, to which noise of several levels is added. Images are
read from $EDGEDENOISE_DATA. Tables go to standard output, `int8.json` to --out.
"""

from __future__ import annotations

import peers  # noqa: F401  (before numpy is loaded: it sets the number of threads)

# isort: split

import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import DATA, check_out, note, parser_of, positive, run_benchmark, write_results
from image_sets import MAIN_SETS, SETS, chosen_sets
from students import open_bundles

from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.calibrate import (
    FLOAT_VARIANT,
    TRAINED_RANGES_FILE,
    choose_ranges,
    float_graph,
    stored_ranges,
)
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.calibration.ranges import Ranges, measure_histograms
from edgedenoise.calibration.schemes import SCHEMES, scheme_named
from edgedenoise.calibration.sets import draw_set
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.imaging.metrics import psnr, psnr_unit
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.noise_plane import noise_of, with_plane
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.tables import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import onnx
    from image_sets import Pair
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.histograms import Histogram

CROPS = 128
CALIBRATORS = ("mse", "entropy", "percentile-99.99", "percentile-99.9")
LADDER = (0.0, 0.3, 0.6, 0.9, 1.2)
LOW_NOISE = (0.0, 0.1)
REFERENCE = SessionOptions(fused=False, threads=1)
FUSED = SessionOptions(threads=1)


@dataclass(frozen=True)
class Loss:
    """A quantized graph on a set."""

    drop_db: float
    """Mean PSNR of float, less that of the graph."""
    to_float_db: float
    """PSNR to the float results before rounding, mean over images."""


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
    """The results in `int8.json`, which is written after each bundle."""

    every: int
    calibrated_on: str
    rows: list[Row] = field(default_factory=list)
    floats_db: dict[str, dict[str, float]] = field(default_factory=dict)
    """Bundle -> set -> mean PSNR in float."""
    notes: list[str] = field(default_factory=list)


class FloatResults:
    """The float results on all sets."""

    def __init__(self, bundle: Bundle, sets: dict[str, list[Pair]]) -> None:
        self.bundle, self.sets = bundle, sets
        variant = bundle.variant(FLOAT_VARIANT)
        opened = OnnxRuntime().open(variant, bundle.model_files(variant), "cpu", FUSED)
        with CheckedSession(opened, channels=bundle.manifest.input_channels) as session:
            self.answers = {name: [self.answer(session, noisy) for noisy, _ in pairs] for name, pairs in sets.items()}
        self.float_db = {
            name: float(np.mean([_psnr(a, clean) for a, (_, clean) in zip(self.answers[name], pairs, strict=True)]))
            for name, pairs in sets.items()
        }

    def answer(self, session: CheckedSession, noisy: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (3, H, W) in [0, 1]."""
        pixels = np.ascontiguousarray(to_unit(noisy).transpose(2, 0, 1))
        manifest = self.bundle.manifest
        if manifest.noise_level is not None:
            pixels = with_plane(pixels, noise_of(to_unit(noisy)).plane())
        return np.clip(run_image(session, pixels, manifest.input_normalization, manifest.tiling), 0, 1)

    def losses(self, session: CheckedSession) -> dict[str, Loss]:
        found = {}
        for name, pairs in self.sets.items():
            own, close = [], []
            for (noisy, clean), reference in zip(pairs, self.answers[name], strict=True):
                answer = self.answer(session, noisy)
                own.append(_psnr(answer, clean))
                close.append(psnr_unit(answer, reference))
            found[name] = Loss(self.float_db[name] - float(np.mean(own)), float(np.mean(close)))
        return found


def _psnr(unit: NDArray[np.float32], clean: NDArray[np.uint8]) -> float:
    return psnr(from_unit(unit.transpose(1, 2, 0), np.uint8), clean)


# ---------------------------------------------------------------- ways to quantize


@dataclass(frozen=True)
class CalibrationImages:
    """Images to calibrate on."""

    folder: Path
    crops: int
    """Number of crops; a sixteenth, a quarter and four times as many are measured as well."""
    levels: tuple[float, ...]
    """Levels of synthetic noise for clean images; empty for noisy images."""

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(max(1, round(self.crops * factor)) for factor in (1 / 16, 1 / 4, 1, 4)))

    def inputs(self, bundle: Bundle, count: int, levels: tuple[float, ...] | None = None) -> Iterator[Any]:
        options = SetOptions(count, noise_levels=self.levels if levels is None else levels)
        manifest = bundle.manifest
        takes_level = manifest.noise_level is not None
        drawn = draw_set(self.folder, options, manifest.input_normalization, manifest.tiling, takes_level=takes_level)
        return (x for x, _ in drawn.inputs())


def ours(bundle: Bundle, images: CalibrationImages) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield the name and the graph of each of our ways to quantize."""
    model = load_onnx(float_graph(bundle))
    if bundle.has(TRAINED_RANGES_FILE):
        for scheme in SCHEMES:
            yield f"trained in 8 bits, {scheme.name}", encode(model, stored_ranges(bundle), scheme)
    whole = images.crops
    measured = {n: _histograms(bundle, model, images.inputs(bundle, n), n) for n in images.sizes}
    for scheme in SCHEMES:
        yield f"{scheme.name} minmax, {whole} crops", encode(model, _ranges(measured[whole], MINMAX.name), scheme)
    default = scheme_named("u8s7")
    for name in CALIBRATORS:
        yield f"u8s7 {name}, {whole} crops", encode(model, _ranges(measured[whole], name), default)
    for count in images.sizes:
        if count != whole:
            yield f"u8s7 minmax, {count} crops", encode(model, _ranges(measured[count], MINMAX.name), default)
    if images.levels:
        low = _histograms(bundle, model, images.inputs(bundle, whole, LOW_NOISE), whole)
        yield f"u8s7 minmax, {whole} crops of weak noise only", encode(model, _ranges(low, MINMAX.name), default)


def _histograms(bundle: Bundle, model: onnx.ModelProto, inputs: Iterator[Any], count: int) -> dict[str, Histogram]:
    return measure_histograms(model, inputs, margin_px=bundle.manifest.tiling.margin_px, total=count)


def _ranges(histograms: dict[str, Histogram], calibrator: str) -> Ranges:
    measured = Ranges("", 0, {name: one.range for name, one in histograms.items()})
    return choose_ranges(measured, histograms, calibrator_named(calibrator), None)


def onnxruntime_default(bundle: Bundle, images: CalibrationImages, out: Path) -> None:
    """Write the result of `onnxruntime.quantization.quantize_static` with its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = images.inputs(bundle, images.crops)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._inputs, None)
            return None if found is None else {"image": found}

    quantize_static(bundle.variant_file(bundle.variant(FLOAT_VARIANT)), out, Reader())


def nncf_default(bundle: Bundle, images: CalibrationImages, out: Path) -> None:
    """Write the result of `nncf.quantize` on the float graph with its defaults, as OpenVINO IR."""
    import nncf
    import openvino

    model = shared_core().read_model(bundle.variant_file(bundle.variant(FLOAT_VARIANT)))
    dataset = nncf.Dataset(list(images.inputs(bundle, images.crops)))
    openvino.save_model(nncf.quantize(model, dataset, subset_size=images.crops), out, compress_to_fp16=False)


# ---------------------------------------------------------------- the command


def measure(bundle: Bundle, images: CalibrationImages, sets: dict[str, list[Pair]], report: Report) -> None:
    name = bundle.source.stem
    floats = FloatResults(bundle, sets)
    report.floats_db[name] = floats.float_db
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        for how, model in ours(bundle, images):
            path.write_bytes(model.SerializeToString())
            _add(report, name, how, path, floats, OnnxRuntime(), REFERENCE)
        path = Path(scratch) / "ort.onnx"
        onnxruntime_default(bundle, images, path)
        _add(report, name, "quantize_static of ONNX Runtime, defaults", path, floats, OnnxRuntime(), FUSED)
        path = Path(scratch) / "nncf.xml"
        try:
            nncf_default(bundle, images, path)
        except ImportError as error:
            report.notes.append(f"NNCF was left out: {error}")
            return
        _add(report, name, "quantize of NNCF, defaults", path, floats, OpenVino(), FUSED)


def _add(report: Report, bundle: str, how: str, path: Path, floats: FloatResults, runtime: Any, options: Any) -> None:
    variant = Variant("candidate", runtime.name, "int8", path.name)
    opened = runtime.open(variant, ModelFiles.read(path), "cpu", options)
    with CheckedSession(opened, channels=floats.bundle.manifest.input_channels) as session:
        losses = floats.losses(session)
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    report.rows.append(Row(bundle, how, sum(file.stat().st_size for file in files) / 1024, losses))
    told = ", ".join(f"{name} {one.drop_db:+.3f} dB" for name, one in losses.items())
    note(f"{bundle}, {how}: {told}")


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
    return "\n\n".join([*parts, f"calibrated on {report.calibrated_on}", *report.notes])


def options_of() -> argparse.Namespace:
    parser = parser_of("Measure the loss of INT8 by scheme, calibrator and calibration set.", "int8")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE.edge")
    parser.add_argument(
        "--sets", type=chosen_sets, default=[SETS[name] for name in MAIN_SETS], metavar="NAME,NAME",
        help=f"of {', '.join(SETS)}",
    )  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    parser.add_argument(
        "--crops", type=positive, default=CROPS, metavar="N", help=f"calibration crops; default: {CROPS}"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--calibrate", type=Path, metavar="DIR", help="noisy images to calibrate on")
    source.add_argument(
        "--calibrate-clean", type=Path, metavar="DIR", default=DATA / "free_photos",
        help="clean images to add noise to",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = options_of()
    clean = options.calibrate is None
    folder = options.calibrate_clean if clean else options.calibrate
    images = CalibrationImages(folder, options.crops, LADDER if clean else ())
    noise = f" with synthetic noise of levels {', '.join(map(str, images.levels))}" if images.levels else ""
    report = Report(options.every, f"{images.folder}{noise}")
    check_out(options.out, "int8")
    bundles = open_bundles(options.bundles)
    seen = [chosen.name for chosen in options.sets if (DATA / chosen.folder).resolve() == folder.resolve()]
    report.notes += [f"calibration has seen the images of {name}: other images may lose more" for name in seen]
    sets = {chosen.name: chosen.read(options.every) for chosen in options.sets}
    for bundle in bundles:
        measure(bundle, images, sets, report)
        write_results(options.out, "int8", report, ["nncf"] if find_spec("nncf") else [])
    print(text(report))


if __name__ == "__main__":
    run_benchmark(main)
