"""Train C-BSN and CAREamics' Noise2Void on the same noisy images for the same time, and compare the quality.

    python benchmarks/noise2void.py DIR --train NOISY --minutes 10 --careamics-python /path/to/python

DIR holds `noisy/` and `clean/`, which are tested on; NOISY holds the noisy images that both are trained on, without
ground truth. C-BSN trains for the given minutes with `edgedenoise train --hours`. Noise2Void gets the CPU seconds that
C-BSN used, so that other work on the machine does not decide. Each number of minutes is a training of its own, because
the schedules depend on the time.

CAREamics is run by an interpreter of its own, because its packages restrict the versions of others. Make one with

    python -m venv careamics && careamics/bin/pip install torch careamics

and name `careamics/bin/python`. Without it the command ends with this hint; nothing is installed by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import check_out, note, parser_of, positive, run_benchmark, write_results
from image_sets import read_pairs

import edgedenoise
from edgedenoise.errors import InferenceError, RuntimeUnavailableError
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import Quality, mean_quality, quality_of
from edgedenoise.tables import table

if TYPE_CHECKING:
    from image_sets import Pair, Pixels

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from noise2void_training import main; main()"


@dataclass(frozen=True)
class Trained:
    """A method after a training."""

    method: str
    minutes: float
    """Time that was given."""
    cpu_seconds: float
    """CPU time that the training used."""
    steps: int
    quality: Quality
    version: str


def train_cbsn(folder: Path, train: Path, pairs: list[Pair], minutes: float, network: str) -> Trained:
    """Train C-BSN as `edgedenoise train --hours` does, and test it as devices run it."""
    config = edgedenoise.TrainConfig.named(
        network, data=str(train), out=str(folder / "run"), hours=minutes / 60, held_out=0, seed=0
    )
    begun = time.process_time()
    result = edgedenoise.train(config)
    used = time.process_time() - begun
    bundle = folder / "cbsn.edge"
    edgedenoise.export(folder / "run", bundle)
    with edgedenoise.load(bundle, runtime="onnxruntime", precision="fp32", threads=1) as denoiser:
        quality = mean_quality([quality_of(denoiser(noisy), clean) for noisy, clean in pairs])
    return Trained(f"C-BSN ({network})", minutes, used, result.steps, quality, edgedenoise.__version__)


def train_noise2void(
    folder: Path, python: str, train: list[Pixels], pairs: list[Pair], minutes: float, cpu_seconds: float
) -> Trained:
    """Train Noise2Void in the other interpreter, and test it.

    Raises:
        InferenceError: CAREamics failed; the message has the end of what it wrote.
    """
    out = folder / "denoised"
    out.mkdir()
    job = {
        "train": _save(train, folder / "train"),
        "test": _save([noisy for noisy, _ in pairs], folder / "test"),
        "cpu_seconds": cpu_seconds,
        "out": str(out),
        "work": str(folder / "work"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [python, "-c", _START, str(Path(__file__).parent), str(folder / "job.json")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise InferenceError(f"CAREamics failed with exit code {done.returncode}: {done.stderr[-1000:].strip()}")
    made = json.loads((out / "training.json").read_text(encoding="utf-8"))
    results = [from_unit(np.load(out / Path(path).name) / 255, np.uint8) for path in job["test"]]
    quality = mean_quality([quality_of(result, clean) for result, (_, clean) in zip(results, pairs, strict=True)])
    return Trained("Noise2Void (CAREamics)", minutes, made["cpu_seconds"], made["steps"], quality, made["version"])


def _save(images: list[Pixels], folder: Path) -> list[str]:
    folder.mkdir()
    paths = [folder / f"{number:04}.npy" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        np.save(path, pixels)
    return [str(path) for path in paths]


def check_careamics(python: str) -> None:
    """Check that an interpreter has CAREamics.

    Raises:
        RuntimeUnavailableError: it has not.
    """
    found = shutil.which(python)
    command = [found or python, "-c", "import careamics, lightning"]
    if found is None or subprocess.run(command, capture_output=True, cwd="/", check=False).returncode != 0:
        raise RuntimeUnavailableError(
            f"CAREamics cannot be imported by {python}",
            hint="Make an environment with: python -m venv careamics && careamics/bin/pip install torch careamics, and"
            " add --careamics-python careamics/bin/python",
        )


def text(rows: list[Trained], noisy: Quality) -> str:
    """Format the results side by side."""
    cells = [
        [row.method, f"{row.minutes:g}", f"{row.cpu_seconds:.0f}", str(row.steps),
         f"{row.quality.psnr_db:.2f}", f"{row.quality.psnr_db - noisy.psnr_db:+.2f}", f"{row.quality.ssim:.4f}"]
        for row in rows
    ]  # fmt: skip
    cells.insert(0, ["noisy input", "", "", "", f"{noisy.psnr_db:.2f}", "", f"{noisy.ssim:.4f}"])
    return table(["method", "minutes", "CPU s", "steps", "PSNR dB", "gain", "SSIM"], cells)


def main() -> None:
    parser = parser_of(__doc__, "noise2void")
    parser.add_argument("folder", type=Path, help="folder with noisy/ and clean/ to test on")
    parser.add_argument("--train", type=Path, required=True, metavar="NOISY", help="folder of noisy images to train on")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0], metavar="M", help="one training each")
    parser.add_argument("--network", default="cbsn-24x4", help="preset of C-BSN")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="test on every N-th image only")
    parser.add_argument("--careamics-python", default=sys.executable, metavar="PATH", help="Python with CAREamics")
    options = parser.parse_args()
    check_out(options.out, "noise2void")
    python = shutil.which(options.careamics_python) or options.careamics_python
    check_careamics(python)
    pairs = read_pairs(options.folder)[:: options.every]
    train = [from_unit(read_image(path).unit(), np.uint8) for path in list_images(options.train)]
    noisy = mean_quality([quality_of(noisy, clean) for noisy, clean in pairs])
    rows: list[Trained] = []
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as scratch:
            ours, theirs = Path(scratch) / "cbsn", Path(scratch) / "noise2void"
            ours.mkdir()
            theirs.mkdir()
            note(f"C-BSN for {minutes:g} minutes")
            rows.append(train_cbsn(ours, options.train, pairs, minutes, options.network))
            note(f"Noise2Void for {rows[-1].cpu_seconds:.0f} CPU seconds")
            rows.append(train_noise2void(theirs, os.path.abspath(python), train, pairs, minutes, rows[-1].cpu_seconds))  # noqa: PTH100
    print(f"{options.folder}: {len(pairs)} images; trained on {len(train)} noisy images", text(rows, noisy), sep="\n")
    write_results(options.out, "noise2void", {"images": len(pairs), "noisy": noisy, "rows": rows})


if __name__ == "__main__":
    run_benchmark(main)
