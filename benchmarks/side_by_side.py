"""Train networks side by side on the same patches: `python benchmarks/side_by_side.py --clean DIR NAME=CONFIG ...`.

Decisions about training are made with this comparison. The patches of a step are drawn once, and every run takes them
in turn, step by step, on one core. So the runs are comparable whenever they are stopped, however busy the machine is. A
run without a level plane gets the patches without it. CONFIG is a preset or a TOML file of the objective `supervised`
or `qat`; the configs may differ in the network, its first weights, the loss and the schedule, but not in the patches.

Every run is an ordinary run folder, DIR/NAME, which `edgedenoise train --resume --out DIR/NAME` continues. The
comparison stops after `--minutes` of wall time, at `--until`, or on SIGTERM or SIGINT, with checkpoints of all runs.
Started again it continues; a run whose checkpoint is behind catches up first. It writes to DIR:

    progress.csv        loss and CPU seconds of each run; the drawing of patches counts for each as if it were alone
    held-out.csv        PSNR on fixed patches of held-out images, of the mean weights, by how noisy the patches are
    side_by_side.json   the newest PSNR of each run, with its CPU seconds
"""

from __future__ import annotations

import contextlib
import copy
import csv
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch
from harness import DATA, check_out, note, parser_of, positive, run_benchmark, write_results

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import UsageError
from edgedenoise.training.checkpoint import LAST, read_checkpoint, restore_network, restore_optimizer, save_checkpoint
from edgedenoise.training.config.config import RUN_CONFIG, SupervisedConfig, TrainConfig
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.loop.distributed import World
from edgedenoise.training.loop.interruption import stop_requests
from edgedenoise.training.loop.stepping import Stepper
from edgedenoise.training.loop.trials import settled_precision
from edgedenoise.training.objectives.objective import open_objective
from edgedenoise.training.objectives.reconstruction import negative_psnr
from edgedenoise.training.objectives.supervised import SupervisedObjective
from edgedenoise.training.torch_device import memory_layout

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from edgedenoise.training.objectives.objective import Batch

CPU = torch.device("cpu")
BINS_DB: Final = (0, 20, 24, 28, 32, 38, 100)
"""Held-out patches are reported by the PSNR of their noise."""
HELD_OUT_PATCHES: Final = 192
MAY_DIFFER: Final = frozenset({
    "network", "init", "out", "learning_rate", "schedule", "warmup", "clip_norm", "ema_decay", "precision", "compile",
    "loss", "laplacian", "psnr_floor_steps", "scheme", "observe_fraction",
})  # fmt: skip
"""Settings that do not change the patches."""
SECONDS_FILE = "cpu-seconds.txt"


class Run:
    """One run of a comparison: its stepper, its number of steps, and its CPU seconds."""

    def __init__(self, name: str, folder: Path, config: SupervisedConfig, objective: SupervisedObjective) -> None:
        """Start or continue the run in a folder.

        Args:
            name: name of the run in the comparison.
            folder: its run folder.
            config: its settings.
            objective: objective that draws the patches of all runs.
        """
        self.name, self.folder = name, folder
        path = folder / LAST
        checkpoint = read_checkpoint(path) if path.exists() else None
        config = msgspec.structs.replace(config, out=str(folder))
        network = initial_network(config if checkpoint is None else msgspec.structs.replace(config, init=""))
        mine = copy.copy(objective)  # the same images, with the losses of this run
        mine.config = config
        before = config if checkpoint is None or config.precision != "auto" else checkpoint.config
        precision = settled_precision(before, mine, network, World())
        self.config = mine.config = msgspec.structs.replace(config, precision=precision)
        network.to(memory_format=memory_layout(CPU, precision))  # type: ignore[call-overload]
        self.stepper = Stepper(self.config, mine, network, World())
        self.done, self.seconds = 0, 0.0
        if checkpoint is not None:
            restore_network(checkpoint.network, network, source=path)
            restore_optimizer(checkpoint, network, self.stepper.optimizer)
            self.done = checkpoint.step
            self.seconds = float((folder / SECONDS_FILE).read_text()) if (folder / SECONDS_FILE).exists() else 0.0
        self.stepper.average.restore(checkpoint.mean if checkpoint is not None else {})
        network.train()
        write_bytes(folder / RUN_CONFIG, self.config.to_toml().encode())

    def view(self, batch: Batch) -> Batch:
        """Return a batch with the level plane where this run's network has one, and without it elsewhere."""
        noisy, clean = batch
        return noisy[:, : 3 + self.config.spec.level_planes], clean

    def step(self, step: int, batch: Batch, drawing: float) -> float:
        """Train one step and return its loss; `drawing` are the CPU seconds of drawing its patches."""
        begun = time.process_time()
        loss = self.stepper.step(step, self.view(batch)).total
        self.seconds += time.process_time() - begun + drawing
        self.done = step + 1
        return loss

    def save(self) -> None:
        """Write the checkpoint and the CPU seconds."""
        save_checkpoint(
            self.folder / LAST,
            config=self.config,
            step=self.done,
            network=self.stepper.network,
            optimizer=self.stepper.optimizer,
            mean=self.stepper.average.state(),
        )
        write_bytes(self.folder / SECONDS_FILE, f"{self.seconds:.1f}\n".encode())

    @torch.no_grad()
    def psnr(self, batches: list[Batch]) -> torch.Tensor:
        """Return the PSNR of every patch, denoised with the mean weights."""
        network = self.stepper.network.eval()
        with self.stepper.average.applied():
            losses = torch.cat([negative_psnr(network(noisy), clean) for noisy, clean in map(self.view, batches)])
        network.train()
        return -losses


@dataclass(frozen=True)
class HeldOut:
    """Fixed patches of held-out images, by how noisy they are."""

    batches: list[Batch]
    bins: dict[str, torch.Tensor]
    """Name of a range of noise -> which patches are in it."""

    @classmethod
    def of(cls, objective: SupervisedObjective) -> HeldOut:
        batches = [objective.held_out_batch(range(i, i + 48)) for i in range(0, HELD_OUT_PATCHES, 48)]
        noise_db = -torch.cat([negative_psnr(noisy[:, :3], clean) for noisy, clean in batches])
        bins = {f"{low}-{high} dB": (noise_db >= low) & (noise_db < high) for low, high in pairwise(BINS_DB)}
        return cls(batches, bins)

    def scores(self, run: Run) -> dict[str, float]:
        """Return the mean PSNR of a run on all patches, `psnr_db`, and on those of each range; NaN where none is."""
        psnr = run.psnr(self.batches)
        return {"psnr_db": psnr.mean().item()} | {name: psnr[found].mean().item() for name, found in self.bins.items()}


def configs_of(options: argparse.Namespace) -> dict[str, SupervisedConfig]:
    """Return the configs by run name.

    Raises:
        UsageError: a config is of another objective, or the configs draw different patches.
    """
    overrides = [f"clean={Path(options.clean).resolve()}", "out=run", "workers=0", "device=cpu", *options.set]
    configs: dict[str, SupervisedConfig] = {}
    for text in options.runs:
        name, equals, config_name = text.partition("=")
        if not name or not equals:
            raise UsageError(
                f"the run {text!r} is not accepted: expected NAME=CONFIG, e.g. level=edge-level-full-range"
            )
        config = TrainConfig.named(config_name).with_overrides(overrides)
        if not isinstance(config, SupervisedConfig):
            raise UsageError(f"{text} has objective = {config.objective!r}: expected supervised or qat")
        configs[name] = config
    first, *others = configs.values()
    for key in set(SupervisedConfig.__struct_fields__) - MAY_DIFFER:
        for other in others:
            one, two = getattr(first, key), getattr(other, key)
            if one != two:
                raise UsageError(
                    f"the runs would see different patches: expected one {key}, got {one!r} and {two!r}",
                    hint=f"Set it for all runs: --set {key}={one}",
                )
    return configs


@contextlib.contextmanager
def csv_file(path: Path, columns: list[str]) -> Iterator[Any]:
    """Yield a function that appends a row to a CSV file; a new file gets the columns first."""
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if is_new:
            writer.writerow(columns)

        def add(row: list[object]) -> None:
            writer.writerow(row)
            stream.flush()

        yield add


def compare(runs: list[Run], objective: SupervisedObjective, options: argparse.Namespace) -> None:
    """Train the runs in turns until the options say stop; write their checkpoints and the tables."""
    held_out, config, begun = HeldOut.of(objective), runs[0].config, time.monotonic()
    note(f"held-out patches by noise: { {name: int(found.sum()) for name, found in held_out.bins.items()} }")
    last = min(config.steps, options.until or config.steps)
    newest: dict[str, dict[str, float]] = {}
    losses: dict[str, list[float]] = {run.name: [] for run in runs}
    saved = begun
    columns = ["step", *(f"{run.name}:{what}" for run in runs for what in ("loss", "cpu"))]
    with (
        stop_requests() as request,
        csv_file(options.out / "progress.csv", columns) as log,
        csv_file(options.out / "held-out.csv", ["step", "run", "cpu", "psnr_db", *held_out.bins]) as scores,
    ):
        for step in range(min(run.done for run in runs), last):
            before = time.process_time()
            batch = objective.batch(step, range(config.batch))
            drawing = time.process_time() - before
            due = [run for run in runs if run.done <= step]
            for run in due:
                losses[run.name].append(run.step(step, batch, drawing))
            if (step + 1) % config.log_every == 0:
                log([step + 1, *(cell for run in runs for cell in (_mean(losses[run.name]), f"{run.seconds:.1f}"))])
                losses = {run.name: [] for run in runs}
            is_over = bool(request.signal_number) or step + 1 == last or time.monotonic() - begun > options.minutes * 60
            if is_over or (step + 1) % options.judge_every == 0:
                for run in due:
                    newest[run.name] = found = held_out.scores(run)
                    cells = [f"{value:.3f}" for value in found.values()]
                    scores([step + 1, run.name, f"{run.seconds:.1f}", *cells])
                    note(f"{step + 1} {run.name} {run.seconds:.0f} CPU s {' '.join(cells)}")
            if is_over or time.monotonic() - saved > options.save_minutes * 60:
                for run in runs:
                    run.save()
                saved = time.monotonic()
            if is_over:
                break
    rows = [
        {"run": run.name, "network": run.config.network, "steps": run.done, "cpu_s": run.seconds, **newest[run.name]}
        for run in runs
        if run.name in newest
    ]
    write_results(options.out, "side_by_side", {"patches": HELD_OUT_PATCHES, "rows": rows})


def _mean(values: list[float]) -> str:
    """Format the mean of the losses of a run; empty where it had no step."""
    return f"{sum(values) / len(values):.4f}" if values else ""


def main() -> None:
    parser = parser_of(__doc__, "side_by_side")
    parser.add_argument("runs", nargs="+", metavar="NAME=CONFIG", help="name of a run, and its preset or TOML file")
    parser.add_argument("--clean", default=str(DATA / "free_photos"), metavar="DIR", help="clean images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of all runs")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="wall time after which to stop")
    parser.add_argument("--until", type=positive, help="step at which to stop; default: the steps of the config")
    parser.add_argument("--judge-every", type=positive, default=500, metavar="STEPS")
    parser.add_argument("--save-minutes", type=float, default=3.0)
    options = parser.parse_args()
    configs = configs_of(options)
    check_out(options.out, "side_by_side")
    torch.set_num_threads(1)
    widest = max(configs.values(), key=lambda config: config.spec.level_planes)
    objective = open_objective(widest)
    if not isinstance(objective, SupervisedObjective):
        raise TypeError(type(objective))
    runs = [Run(name, options.out / name, config, objective) for name, config in configs.items()]
    compare(runs, objective, options)


if __name__ == "__main__":
    run_benchmark(main)
