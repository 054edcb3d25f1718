"""Measure how long commands take from a cold start: `python benchmarks/startup.py`.

Each command runs in processes of its own, in turns with a bare `import numpy, PIL.Image, onnxruntime`, without which
no image can be denoised. Processor time is compared, because time on the wall depends on other work of the machine.
`-X importtime` shows which packages take the time of importing. Compiled modules are cached in a folder of the
benchmark, as an installation has them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import check_out, markdown_table, page_parser_of, positive, run_benchmark, write_results, write_table

from edgedenoise.errors import MeasurementError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIDE_PX = 512
TARGETS_S = {"--help": 0.2, "denoise": 1.0}
SHOWN_PACKAGES = 5


@dataclass(frozen=True)
class Start:
    """Cold starts of one command."""

    command: str
    cpu_s: float
    """Least processor time of a process: of Python, imports and the work."""
    wall_s: float
    """Least time on the wall."""
    modules: int
    """Number of modules that are imported."""
    import_ms: dict[str, float]
    """Package -> least time on the wall that its own modules take to import, longest first."""


def environment(cache: Path) -> dict[str, str]:
    """Return the environment of the processes: one thread, compiled modules in a cache."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**given, "PYTHONPYCACHEPREFIX": str(cache), "OMP_NUM_THREADS": "1"}


def run(words: Sequence[str], env: Mapping[str, str]) -> tuple[float, float, str]:
    """Run Python and return the processor time, the time on the wall and the standard error."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise MeasurementError(f"the command failed with exit code {done.returncode}: {done.stderr.strip()}")
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return children, wall, done.stderr


def import_times(log: str) -> dict[str, float]:
    """Return the milliseconds that each package takes by itself, from what `-X importtime` writes."""
    times: Counter[str] = Counter()
    for line in log.splitlines():
        own, _, name = line.removeprefix("import time:").rpartition("|")
        if line.startswith("import time:") and own.split("|")[0].strip().isdigit():
            times[name.strip().partition(".")[0]] += int(own.split("|")[0]) / 1000  # type: ignore[assignment]
    return dict(times)


def measure(commands: Mapping[str, Sequence[str]], cache: Path, repeats: int) -> list[Start]:
    """Measure all commands in turns; the first turn fills the caches and does not count."""
    env = environment(cache)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    imports: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    modules: dict[str, int] = {}
    for turn in range(repeats + 1):
        for name, words in commands.items():
            cpu, wall, _ = run(words, env)
            log = run(["-X", "importtime", *words], env)[2]
            if turn:
                times[name].append((cpu, wall))
                imports[name].append(import_times(log))
                modules[name] = log.count("import time:") - 1
    return [
        Start(name, min(cpu for cpu, _ in times[name]), min(wall for _, wall in times[name]), modules[name],
              least(imports[name]))
        for name in commands
    ]  # fmt: skip


def least(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the least time of each package, longest first."""
    found = {package: min(one.get(package, 0.0) for one in runs) for package in runs[0]}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = page_parser_of(__doc__, "startup")
    parser.add_argument("--repeats", type=positive, default=7, metavar="N", help="turns")
    options = parser.parse_args()
    check_out(options.out, "startup")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels = np.random.default_rng(0).integers(100, 140, (SIDE_PX, SIDE_PX, 3), np.uint8)
        write_image(Image(pixels), folder / "in.png")
        product = ("-m", "edgedenoise")
        denoise = ("denoise", str(folder / "in.png"), "-o", str(folder / "out.png"), "--overwrite", "--threads", "1")
        commands = {
            "import numpy, PIL.Image, onnxruntime": ("-c", "import numpy, PIL.Image, onnxruntime"),
            "edgedenoise --help": (*product, "--help"),
            "edgedenoise denoise --help": (*product, "denoise", "--help"),
            f"edgedenoise denoise, {SIDE_PX}x{SIDE_PX}, edge": (*product, *denoise),
            f"edgedenoise denoise, {SIDE_PX}x{SIDE_PX}, edge-tiny": (*product, *denoise, "-m", "edge-tiny"),
        }
        starts = measure(commands, folder / "compiled", options.repeats)
    header = ["command", "CPU s", "wall s", "modules", "longest imports, ms"]
    rows = []
    for start in starts:
        longest = list(start.import_ms.items())[:SHOWN_PACKAGES]
        shown = ", ".join(f"{package} {ms:.0f}" for package, ms in longest)
        rows.append([start.command, f"{start.cpu_s:.2f}", f"{start.wall_s:.2f}", str(start.modules), shown])
    print(table(header, rows))
    path = write_results(options.out, "startup", [asdict(start) for start in starts], ["typer"])
    if options.page is not None:
        write_table(options.page, path, markdown_table([*header], [[f"`{row[0]}`", *row[1:]] for row in rows]))


if __name__ == "__main__":
    run_benchmark(main)
