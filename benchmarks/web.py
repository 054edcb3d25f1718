"""Measure WebAssembly against native ONNX Runtime, INT8 against float, one and two threads: `python benchmarks/web.py`.

Node runs the WebAssembly that browsers run. Every variant has a process of its own, as a page has one session. All of
them take turns in every round, so that a change of the load hits all. A round is one inference of one tile. Times of
one thread are compared by processor time, which other work on the machine hardly changes, and by time on the wall;
those of two threads by time on the wall alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import check_out, markdown_table, note, page_parser_of, positive, run_benchmark, write_results, write_table

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import MeasurementError, RuntimeUnavailableError
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.runtimes.checked import CheckedSession

WEB = Path(__file__).resolve().parents[1] / "runtimes" / "web"
DRIVER = WEB / "tests" / "bench_driver.mjs"
THREADS = (1, 2)
WARM_UP = 3


class Native:
    """A variant on ONNX Runtime in this process."""

    def __init__(self, bundle: Bundle, variant: str, threads: int, tile: np.ndarray) -> None:
        options = SessionOptions(threads=threads)
        self._session: CheckedSession = open_variant(bundle, bundle.variant(variant), options=options, selftest=False)
        self._tile = tile

    def run(self) -> tuple[float, float]:
        """Run the tile; return milliseconds on the wall and of processor time."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._session.run(self._tile)
        return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000

    def output(self) -> np.ndarray:
        """Return the output for the tile."""
        return self._session.run(self._tile)

    def close(self) -> None:
        """Release the session."""
        self._session.close()


class Web:
    """A variant on ONNX Runtime for the web, in a process of Node."""

    def __init__(self, bundle: Bundle, variant: str, threads: int, tile: np.ndarray, folder: Path) -> None:
        model = folder / f"{variant}.onnx"
        model.write_bytes(bundle.model_files(bundle.variant(variant)).onnx_data)
        (folder / "tile.bin").write_bytes(tile.tobytes())
        self._out = folder / f"{variant}-{threads}.bin"
        sides = ",".join(map(str, tile.shape))
        command = ["node", str(DRIVER), str(model), str(folder / "tile.bin"), sides, str(threads), str(self._out)]
        self._shape = (1, 3, *tile.shape[2:])
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self) -> tuple[float, float]:
        """Run the tile; return milliseconds on the wall and of processor time."""
        answer = self._ask("run")
        return answer["wall"], answer["cpu"]

    def output(self) -> np.ndarray:
        """Return the output for the tile."""
        self._ask("write")
        return np.fromfile(self._out, "<f4").reshape(self._shape)

    def _ask(self, what: str) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise MeasurementError("Node was started without pipes")
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise MeasurementError("Node ended before it answered; its message is above")
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)


def measure(bundle: Bundle, side_px: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Measure every variant of ONNX Runtime; return one row for each place, variant and number of threads."""
    rng = np.random.default_rng(0)
    tile = rng.random((1, bundle.manifest.input_channels, side_px, side_px), np.float32)
    names = [one.name for one in bundle.manifest.variants if one.runtime == OnnxRuntime.name]
    runners: dict[tuple[str, str, int], Native | Web] = {}
    times: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    try:
        for threads in THREADS:
            for name in names:
                runners["native", name, threads] = Native(bundle, name, threads, tile)
                runners["web", name, threads] = Web(bundle, name, threads, tile, folder)
        errors = {
            (name, threads): float(
                np.abs(runners["web", name, threads].output() - runners["native", name, threads].output()).max()
            )
            for _, name, threads in runners
        }
        for number in range(-WARM_UP, rounds):
            note(f"round {number + 1} of {rounds}")
            for key, runner in runners.items():
                found = runner.run()
                if number >= 0:
                    times.setdefault(key, []).append(found)
    finally:
        for runner in runners.values():
            runner.close()
    return [
        {
            "where": where,
            "variant": name,
            "threads": threads,
            "wall_ms": [wall for wall, _ in found],
            "cpu_ms": [cpu for _, cpu in found],
            "wall_p50_ms": float(np.median([wall for wall, _ in found])),
            "wall_p90_ms": float(np.percentile([wall for wall, _ in found], 90)),
            "cpu_p50_ms": float(np.median([cpu for _, cpu in found])),
            "max_error_to_native": errors[name, threads] if where == "web" else 0.0,
        }
        for (where, name, threads), found in times.items()
    ]


def main() -> None:
    parser = page_parser_of(__doc__, "web")
    parser.add_argument("bundle", nargs="?", default="edge-tiny", help="a bundle; default: %(default)s")
    parser.add_argument("--side", type=positive, default=256, metavar="PX", help="side of the tile")
    parser.add_argument("--rounds", type=positive, default=15)
    options = parser.parse_args()
    check_out(options.out, "web")
    if shutil.which("node") is None or not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        raise RuntimeUnavailableError(
            "Node or onnxruntime-web is missing", hint="Install Node 20 or newer, and: make web"
        )
    bundle = Bundle.open(options.bundle)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(bundle, options.side, options.rounds, Path(folder))
    native = {(row["variant"], row["threads"]): row for row in rows if row["where"] == "native"}
    cells = []
    for row in rows:
        base = native[row["variant"], row["threads"]]
        one = row["threads"] == 1
        cells.append(
            [
                "ONNX Runtime" if row["where"] == "native" else "WebAssembly",
                row["variant"],
                str(row["threads"]),
                f"{row['wall_p50_ms']:.0f}",
                f"{row['wall_p90_ms']:.0f}",
                f"{row['wall_p50_ms'] / base['wall_p50_ms']:.1f}",
                f"{row['cpu_p50_ms']:.0f}" if one else "-",
                f"{row['cpu_p50_ms'] / base['cpu_p50_ms']:.1f}" if one else "-",
                f"{row['max_error_to_native']:.1e}",
            ]
        )
    header = ["runtime", "variant", "threads", "p50 ms", "p90 ms", "ratio", "CPU ms", "CPU ratio", "max error"]
    print(table(header, cells))
    results = {"bundle": bundle.manifest.name, "side_px": options.side, "rounds": options.rounds, "rows": rows}
    path = write_results(options.out, "web", results, ["onnxruntime"])
    if options.page is not None:
        write_table(options.page, path, markdown_table(header, cells))


if __name__ == "__main__":
    run_benchmark(main)
