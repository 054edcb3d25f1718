"""Time of the network alone as `edgedenoise bench` measures it, beside OpenVINO's `benchmark_app` on the same files.

Both run the same IR at the same shape, in many short rounds: in random order, `benchmark_app` runs some inferences in
a process of its own, and a worker of `edgedenoise bench` as many. Two ratios are compared, which agree on an idle
machine:

- the median over the rounds of the ratio of the medians, with a 95 % bootstrap interval over the rounds, and
- the ratio of the fastest inferences of all rounds, which other work on the machine disturbs least.

The input is small by default, so that an inference is over before the system gives the CPU to other work.

    python benchmarks/against_benchmark_app.py edge edge-tiny --page
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import check_out, markdown_table, note, page_parser_of, positive, run_benchmark, write_results, write_table

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import copy_bundle
from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.evaluation.bootstrap import median_interval
from edgedenoise.evaluation.worker import OpenOptions, Worker

ACCEPTED = 0.05
"""Largest accepted difference of the two, as a part."""


class Times(NamedTuple):
    """Times of the inferences of one round."""

    median_ms: float
    fastest_ms: float


@dataclass(frozen=True)
class Row:
    """One variant."""

    bundle: str
    variant: str
    side_px: int
    ours: tuple[Times, ...]
    """One per round."""
    benchmark_app: tuple[Times, ...]

    @property
    def ratios(self) -> list[float]:
        """Median of `bench` / median of `benchmark_app`, of each round."""
        pairs = zip(self.ours, self.benchmark_app, strict=True)
        return [ours.median_ms / theirs.median_ms for ours, theirs in pairs]

    @property
    def ratio_of_fastest(self) -> float:
        """The same of the fastest inferences of all rounds, which other work on the machine disturbs least."""
        return min(one.fastest_ms for one in self.ours) / min(one.fastest_ms for one in self.benchmark_app)


def benchmark_app_ms(program: str, model: Path, channels: int, side_px: int, inferences: int, threads: int) -> Times:
    """Return the latencies that `benchmark_app` reports."""
    command = [
        program, "-m", str(model), "-d", "CPU", "-hint", "none", "-api", "sync", "-nstreams", "1",
        "-nthreads", str(threads), "-niter", str(inferences), "-infer_precision", "f32", "-ip", "f32",
        "-shape", f"image[1,{channels},{side_px},{side_px}]",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [re.search(rf"{name}:\s+([\d.]+) ms", done.stdout) for name in ("Median", "Min")]
    if found[0] is None or found[1] is None:
        raise RuntimeUnavailableError(f"benchmark_app reported no latencies: {(done.stdout + done.stderr)[-500:]}")
    return Times(float(found[0][1]), float(found[1][1]))


def ours_ms(worker: Worker, side_px: int, inferences: int) -> Times:
    """Return the times of the network alone in a worker of `edgedenoise bench`."""
    times = [worker.run_network(side_px, side_px) for _ in range(inferences)]
    if worker.error:
        raise RuntimeUnavailableError(f"{worker.variant.name} was not measured: {worker.error}")
    measured = [one for one in times if one is not None]
    return Times(float(np.median(measured)), min(measured))


def measure(name: str, program: str, side_px: int, rounds: int, inferences: int, threads: int) -> list[Row]:
    """Measure the OpenVINO variants of a bundle, which are built in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.edge"
        copy_bundle(Bundle.open(name), copy)
        bundle = edgedenoise.compile(copy, target="openvino")
        channels, order, rows = bundle.manifest.input_channels, np.random.default_rng(0), []
        for variant in (one for one in bundle.manifest.variants if one.runtime == "openvino"):
            ours, theirs = [], []
            with Worker(bundle, variant, OpenOptions("cpu", threads)) as worker:
                ours_ms(worker, side_px, 2)  # compiles for the shape
                for done in range(rounds):
                    note(f"{name} {variant.name}: round {done + 1} of {rounds}")
                    for first in order.permutation(2):
                        if first:
                            ours.append(ours_ms(worker, side_px, inferences))
                        else:
                            path = bundle.root / variant.path
                            theirs.append(benchmark_app_ms(program, path, channels, side_px, inferences, threads))
            rows.append(Row(name, variant.name, side_px, tuple(ours), tuple(theirs)))
    return rows


def judgement(row: Row) -> str:
    """Return whether the two agree: from the interval of the median ratio, and the ratio of the fastest inferences."""
    interval = median_interval(row.ratios)
    if interval is None:
        return "too few rounds"
    if interval.low > 1 + ACCEPTED or interval.high < 1 - ACCEPTED:
        return "no"
    if abs(row.ratio_of_fastest - 1) > ACCEPTED:
        return "not decided"
    return "yes" if max(abs(interval.low - 1), abs(interval.high - 1)) <= ACCEPTED else "yes, by the fastest"


def table(rows: list[Row]) -> str:
    """Format the results; times are those of the fastest inferences."""
    lines = []
    for row in rows:
        interval = median_interval(row.ratios)
        spread = "" if interval is None else f" ({interval.low:.2f} to {interval.high:.2f})"
        lines.append(
            [
                f"`{row.bundle}` {row.variant}",
                f"{row.side_px}x{row.side_px}",
                f"{min(one.fastest_ms for one in row.ours):.2f}",
                f"{min(one.fastest_ms for one in row.benchmark_app):.2f}",
                f"{row.ratio_of_fastest:.3f}",
                f"{np.median(row.ratios):.3f}{spread}",
                judgement(row),
            ]
        )
    header = ["variant", "shape", "`bench`, ms", "`benchmark_app`, ms", "ratio", "median ratio (95 %)"]
    return markdown_table([*header, f"within {ACCEPTED:.0%}"], lines)


def main() -> None:
    parser = page_parser_of(__doc__, "against_benchmark_app")
    parser.add_argument("bundles", nargs="+", help="bundles, or names of shipped ones")
    parser.add_argument("--side", type=positive, default=256, metavar="PX", help="side of the square input")
    parser.add_argument("--rounds", type=positive, default=15, help="rounds that alternate between the two")
    parser.add_argument("--inferences", type=positive, default=10, help="inferences of each per round")
    parser.add_argument("--threads", type=positive, default=1, help="threads of an inference")
    options = parser.parse_args()
    check_out(options.out, "against_benchmark_app")
    program = shutil.which("benchmark_app") or shutil.which("benchmark_app", path=str(Path(sys.executable).parent))
    if program is None:
        raise RuntimeUnavailableError(
            "benchmark_app is not installed", hint='Install it with: pip install "edgedenoise[openvino]"'
        )
    rows = [
        row
        for name in options.bundles
        for row in measure(name, program, options.side, options.rounds, options.inferences, options.threads)
    ]
    results = write_results(options.out, "against_benchmark_app", {"rows": rows, "accepted": ACCEPTED}, ["openvino"])
    print(table(rows))
    if options.page is not None:
        write_table(options.page, results, table(rows))


if __name__ == "__main__":
    run_benchmark(main)
