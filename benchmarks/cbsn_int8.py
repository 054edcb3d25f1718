"""Measure what INT8 costs a C-BSN by normalization and layers kept in float: `python benchmarks/cbsn_int8.py RUN ...`.

Each run is exported with and without a limit of the normalization, calibrated, and quantized three ways: all layers in
integers, the layers that the search of `build` keeps in float, and, for runs trained in 8 bits, with their own ranges.
The loss against float is measured on whole images with ground truth, in the mean and on the worst image; the time is
that of OpenVINO against float, in turns on one thread.

Images are read from $EDGEDENOISE_DATA. Tables go to standard output, `cbsn_int8.json` to --out.
"""

from __future__ import annotations

import peers  # noqa: F401  (before numpy is loaded: it sets the number of threads)

# isort: split

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import check_out, markdown_table, note, parser_of, positive, run_benchmark, write_results
from image_sets import MAIN_SETS, SETS, chosen_sets

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.exporting.onnx.float_bundle import write_float_bundle
from edgedenoise.exporting.onnx.graph import conv_macs_per_px
from edgedenoise.exporting.onnx.to_onnx import export_graph
from edgedenoise.exporting.quantization.float_layers import find_float_layers
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.exporting.quantization.quantize import float_source
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.imaging.metrics import psnr
from edgedenoise.imaging.normalize import Normalization
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.timing import speed_against

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import onnx
    from image_sets import Pair

    from edgedenoise.exporting.onnx.float_bundle import FloatGraph
    from edgedenoise.exporting.quantization.quantize import FloatSource

ONE_THREAD = SessionOptions(threads=1)
TIMED_SIDE_PX = 512


@dataclass(frozen=True)
class SetLoss:
    """PSNR that a quantized graph loses against float on one set."""

    mean_db: float
    median_db: float
    worst_db: float


@dataclass(frozen=True)
class Row:
    """One way to quantize one run."""

    run: str
    normalization: str
    scheme: str
    float_layers: list[str]
    float_macs_share: float
    losses: dict[str, SetLoss]
    """By set."""
    time_vs_float: float
    """On OpenVINO, below 1 is faster."""


@dataclass
class Report:
    """The results in `cbsn_int8.json`, which is written after each row."""

    every: int
    calibrated_on: str
    rows: list[Row] = field(default_factory=list)
    floats_db: dict[str, dict[str, float]] = field(default_factory=dict)
    """Run and normalization -> set -> mean PSNR in float."""


class Measured:
    """A run with one normalization, calibrated in a scratch folder."""

    def __init__(self, graph: FloatGraph, data: Path, sets: dict[str, list[Pair]], scratch: Path) -> None:
        self.normalization, self.sets = graph.normalization, sets
        bundle = write_float_bundle(scratch / "measured.edge", graph)
        self.tiling = bundle.manifest.tiling
        edgedenoise.calibrate(bundle.root, data)
        self.source: FloatSource = float_source(Bundle.open(bundle.root), "minmax", data)
        self.float_db = self.quality(self.source.model)

    def quality(self, model: onnx.ModelProto, encoding: Encoding | None = None) -> dict[str, list[float]]:
        """Return the PSNR of every image by set; the kernels of ONNX Runtime compute exact W8A8."""
        with opened(OnnxRuntime(), model, encoding) as session:
            return {
                name: [
                    psnr(from_unit(self._answer(session, noisy).transpose(1, 2, 0), np.uint8), clean)
                    for noisy, clean in pairs
                ]
                for name, pairs in self.sets.items()
            }

    def row(self, run: str, scheme_name: str, kept: tuple[str, ...]) -> Row:
        scheme, source = scheme_named(scheme_name), self.source
        model = encode(source.model, source.ranges, scheme, kept)
        encoding = scheme.encoding
        losses = {}
        for name, found in self.quality(model, encoding).items():
            lost = np.array(self.float_db[name]) - np.array(found)
            losses[name] = SetLoss(float(lost.mean()), float(np.median(lost)), float(lost.max()))
        macs = conv_macs_per_px(source.model)
        share = float(sum(macs.get(name, 0) for name in kept) / sum(macs.values()))
        with opened(OpenVino(), source.model, None) as floats, opened(OpenVino(), model, encoding) as integers:
            time = 1 / speed_against(floats, integers, side_px=TIMED_SIDE_PX)
        return Row(run, str(self.normalization), scheme.name, list(kept), share, losses, time)

    def _answer(self, session: CheckedSession, noisy: Any) -> Any:
        pixels = np.ascontiguousarray(to_unit(noisy).transpose(2, 0, 1))
        return np.clip(run_image(session, pixels, self.normalization, self.tiling), 0, 1)


@contextmanager
def opened(runtime: Any, model: onnx.ModelProto, encoding: Encoding | None) -> Iterator[CheckedSession]:
    files = ModelFiles.of_bytes("candidate.onnx", model.SerializeToString())
    variant = Variant("candidate", runtime.name, "fp32" if encoding is None else "int8", files.name, encoding)
    with CheckedSession(runtime.open(variant, files, "cpu", ONE_THREAD)) as session:
        yield session


def measure(run: Path, options: argparse.Namespace, sets: dict[str, list[Pair]], report: Report) -> None:
    graph = export_graph(run)
    limits: list[float | None] = [None, *options.limits] if not graph.trained_ranges else [graph.normalization.limit]
    for limit in limits:
        with tempfile.TemporaryDirectory() as scratch:
            one = replace(graph, normalization=Normalization.whole_image(limit))
            measured = Measured(one, options.calibrate, sets, Path(scratch))
            means = {name: float(np.mean(found)) for name, found in measured.float_db.items()}
            report.floats_db[f"{run.name}, {one.normalization}"] = means
            note(f"{run.name}, {one.normalization}: float {means}")
            for scheme in ("u8s7", "u8s8"):
                found: list[tuple[str, ...]] = [()]
                if limit is not None and measured.source.judge is not None:
                    source = measured.source
                    kept = find_float_layers(
                        source.model, source.ranges, scheme_named(scheme), measured.source.judge, seconds=options.search
                    )
                    note(f"{scheme} keeps {kept.layers}: on held-out images {kept.fidelity}")
                    found += [kept.layers] if kept.layers else []
                for layers in found:
                    report.rows.append(measured.row(run.name, scheme, layers))
                    note(str(report.rows[-1]))
                    write_results(options.out, "cbsn_int8", report)


def text(report: Report) -> str:
    sets = list(next(iter(report.floats_db.values())))
    header = ["run", "normalization", "scheme", "in float"]
    header += [f"{name}: mean / median / worst, dB lost" for name in sets] + ["time / float"]
    rows = [
        [
            row.run,
            row.normalization,
            row.scheme,
            f"{len(row.float_layers)} layers, {row.float_macs_share:.0%} of the MACs" if row.float_layers else "none",
            *[f"{one.mean_db:.3f} / {one.median_db:.3f} / {one.worst_db:.2f}" for one in row.losses.values()],
            f"{row.time_vs_float:.2f}",
        ]
        for row in report.rows
    ]
    floats = [
        f"{name}: {', '.join(f'{one} {db:.2f} dB' for one, db in f.items())}" for name, f in report.floats_db.items()
    ]
    return "\n".join([markdown_table(header, rows), "", "float:", *floats, "", f"calibrated on {report.calibrated_on}"])


def options_of() -> argparse.Namespace:
    parser = parser_of("Measure what INT8 costs a C-BSN by normalization and layers kept in float.", "cbsn_int8")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--calibrate", type=Path, required=True, metavar="DIR", help="noisy images to calibrate on")
    parser.add_argument(
        "--sets", type=chosen_sets, default=[SETS[name] for name in MAIN_SETS], metavar="NAME,NAME",
        help=f"of {', '.join(SETS)}",
    )  # fmt: skip
    parser.add_argument("--every", type=positive, default=4, metavar="N", help="only every N-th image; default: 4")
    parser.add_argument(
        "--limits", type=float, nargs="*", default=[4.0], metavar="Z", help="limits of the normalization; default: 4"
    )
    parser.add_argument("--search", type=float, default=600, metavar="S", help="longest search; default: 600 s")
    return parser.parse_args()


def main() -> None:
    options = options_of()
    check_out(options.out, "cbsn_int8")
    report = Report(options.every, str(options.calibrate))
    sets = {chosen.name: chosen.read(options.every) for chosen in options.sets}
    for run in options.runs:
        measure(run, options, sets, report)
    print(text(report))


if __name__ == "__main__":
    run_benchmark(main)
