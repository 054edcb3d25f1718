"""Measure what the guard of a network that takes the noise level costs: `python benchmarks/guard.py`.

`edge-level` with fresh weights is traced with and without its guard, as a float graph and as an INT8 graph, and both
run in turns on one thread of ONNX Runtime and of OpenVINO. The guard adds operators and a wider halo, so that two
ratios are measured for each tile size: for inputs of the same size (the operators alone), and for the inputs of the
same tile with their margins (what an image costs). Times are CPU times, which other programs disturb little.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from harness import check_out, markdown_table, parser_of, positive, run_benchmark, write_results

from edgedenoise.calibration.ranges import Ranges, measure_histograms
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.exporting.onnx.tracing import deployed, trace
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.networks.guard import guarded_halo_px
from edgedenoise.training.networks.students import EdgeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

    Run = Callable[[NDArray[np.float32]], Any]

NETWORK, SCHEME = "edge-level", "u8s7"
TILES_PX = (512, 1024)


def graphs() -> dict[tuple[str, bool], onnx.ModelProto]:
    """Return the graphs to compare, by precision and by whether they have the guard."""
    spec = network_spec(NETWORK)
    network = build_network(spec, seed=0).eval()
    if not isinstance(network, EdgeNetwork):
        raise TypeError(f"{NETWORK} is no EdgeNetwork")
    torch.nn.init.normal_(network.tail.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    crop = np.random.default_rng(0).random((1, 4, 96, 96), np.float32)
    found = {}
    for guard in (False, True):
        model = trace(deployed(network, spec, guard=guard), 4).model
        histograms = measure_histograms(model, [crop], margin_px=0, total=1)
        tensors = {name: histogram.range for name, histogram in histograms.items()}
        found["fp32", guard] = model
        found["int8", guard] = encode(model, Ranges("", 1, tensors), scheme_named(SCHEME))
    return found


def on_onnxruntime(model: onnx.ModelProto) -> Run:
    """Return what runs a graph on one thread of ONNX Runtime."""
    import onnxruntime  # after edgedenoise, which switches its telemetry off

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"image": x})


def on_openvino(model: onnx.ModelProto) -> Run:
    """Return what runs a graph on one thread of OpenVINO."""
    core = shared_core()
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", config)
    return lambda x: compiled({"image": x})


def ratios(plain: Run, guarded: Run, tile: int, repeats: int) -> dict[str, float]:
    """Measure the time with the guard over the time without, for one tile size."""
    halo = network_spec(NETWORK).halo_px
    margins = [Tiling(px, multiple_of=2).margin_px for px in (halo, guarded_halo_px(halo))]
    narrow, wide = (np.random.default_rng(0).random((1, 4, tile + 2 * px, tile + 2 * px), np.float32) for px in margins)
    same, whole = [], []
    for _ in range(repeats + 1):
        before, operators, image = (seconds(run, x) for run, x in ((plain, narrow), (guarded, narrow), (guarded, wide)))
        same.append(operators / before)
        whole.append(image / before)
    # The first run allocates.
    return {"operators": float(np.median(same[1:])), "image": float(np.median(whole[1:]))}


def seconds(run: Run, x: NDArray[np.float32]) -> float:
    """Measure the CPU time of one run in seconds."""
    start = time.process_time()
    run(x)
    return time.process_time() - start


def main() -> None:
    parser = parser_of(__doc__, "guard")
    parser.add_argument("--repeats", type=positive, default=7, metavar="N", help="rounds; their median is reported")
    parser.add_argument("--tiles", type=positive, nargs="+", default=TILES_PX, metavar="PX", help="sides of the tiles")
    options = parser.parse_args()
    check_out(options.out, "guard")
    models, rows = graphs(), []
    for runtime, opened in (("onnxruntime", on_onnxruntime), ("openvino", on_openvino)):
        for precision in ("fp32", "int8"):
            plain, guarded = (opened(models[precision, guard]) for guard in (False, True))
            for tile in options.tiles:
                found = ratios(plain, guarded, tile, options.repeats)
                rows.append({"runtime": runtime, "precision": precision, "tile": tile, **found})
    cells = [
        [row["runtime"], row["precision"], str(row["tile"]), f"{row['operators']:.3f}", f"{row['image']:.3f}"]
        for row in rows
    ]
    print(markdown_table(["runtime", "precision", "tile", "same input", "with the wider margin"], cells))
    write_results(options.out, "guard", rows, ["onnxruntime", "openvino", "torch"])


if __name__ == "__main__":
    run_benchmark(main)
