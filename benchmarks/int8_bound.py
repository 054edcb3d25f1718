"""Measure what INT8 gains over float in OpenVINO, and what its time goes to: `python benchmarks/int8_bound.py edge`.

Float and INT8 take turns on one thread, on one tile; processor time is compared. OpenVINO's own counters give the share
of each kind of operation. Set ONEDNN_MAX_CPU_ISA=AVX2 to measure without VNNI and AVX-512.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from harness import check_out, markdown_table, page_parser_of, positive, run_benchmark, write_results, write_table

from edgedenoise.bundles.pretrained import resolve
from edgedenoise.runtimes.opening import open_model
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.tables import table

VARIANTS = ("onnx-fp32", "onnx-int8-u8s7")
SIDE_PX = 512


def request(model: bytes, channels: int) -> Any:
    """Return an OpenVINO request for one tile on one thread, with counters."""
    core = shared_core()
    network = core.read_model(model, b"")
    network.reshape({"image": [1, channels, SIDE_PX, SIDE_PX]})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(network, "CPU", {**config, "PERF_COUNT": True}).create_infer_request()


def main() -> None:
    parser = page_parser_of(__doc__, "int8_bound")
    parser.add_argument("model", help="a bundle, or the name of a shipped one")
    parser.add_argument("--repeats", type=positive, default=9, metavar="N", help="turns")
    options = parser.parse_args()
    check_out(options.out, "int8_bound")
    bundle = open_model(Path(resolve(options.model)))
    channels = bundle.manifest.input_channels
    image = np.random.default_rng(0).random((1, channels, SIDE_PX, SIDE_PX), np.float32)
    requests = {name: request(bundle.model_files(bundle.variant(name)).onnx_data, channels) for name in VARIANTS}
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    kinds: dict[str, Counter[str]] = {name: Counter() for name in VARIANTS}
    for _ in range(options.repeats):
        for name, one in requests.items():
            start = time.process_time()
            one.infer({"image": image})
            times[name].append(time.process_time() - start)
            for operation in one.profiling_info:
                kinds[name][operation.node_type] += operation.cpu_time.total_seconds()  # type: ignore[assignment]
    ratio = min(times[VARIANTS[1]]) / min(times[VARIANTS[0]])
    header, rows, results = ["variant", "CPU s/MP", "against float", "convolutions", "all else"], [], []
    for name in VARIANTS:
        seconds_per_mp = min(times[name]) / (SIDE_PX**2 / 1e6)
        share = kinds[name]["Convolution"] / kinds[name].total()
        shown = "1" if name == VARIANTS[0] else f"{ratio:.2f}"
        rows.append([name, f"{seconds_per_mp:.3f}", shown, f"{share:.1%}", f"{1 - share:.1%}"])
        results.append({"variant": name, "cpu_s_per_mp": seconds_per_mp, "convolution_share": share})
    print(table(header, rows))
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    record = {"model": options.model, "onednn_max_cpu_isa": isa, "ratio": ratio, "rows": results}
    path = write_results(options.out, "int8_bound", record, ["openvino"])
    if options.page is not None:
        limit = f"`ONEDNN_MAX_CPU_ISA={isa}`" if isa else "no limit of instructions"
        write_table(options.page, path, f"`{options.model}`, {limit}:\n\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    run_benchmark(main)
