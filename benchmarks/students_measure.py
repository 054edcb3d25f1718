"""Quality and speed of every variant of bundles, beside classical denoisers: what `students.py` measures."""

from __future__ import annotations

import peers  # before numpy is loaded: it sets the number of threads

# isort: split

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import note, write_results

from edgedenoise.denoiser import load_variant
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.evaluation.bench import DEFAULT_SIDE_PX
from edgedenoise.evaluation.measurement import FLOAT_PRECISIONS, Latency
from edgedenoise.imaging.metrics import Quality, mean_quality, quality_of
from edgedenoise.runtimes.timing import speed_ratio, time_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack
    from pathlib import Path

    from image_sets import ImageSet, Pair, Pixels
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import NetworkInfo, Precision

THREADS = 1
LARGE_MP = 4
SWEEP_EVERY = 5
"""Strengths of the peers are found on every fifth image of a set of more than `LARGE_MP` megapixels."""


@dataclass(frozen=True)
class Student:
    """A variant of a bundle, opened."""

    label: str
    """Unique in a run: bundle and variant."""
    bundle: str
    variant: str
    runtime: str
    precision: Precision
    network: NetworkInfo
    size_bytes: int
    """Size of all files of the variant."""
    runtime_version: str
    device: str
    detail: str

    def floats(self, others: Iterable[Student]) -> list[Student]:
        """Return the float students of the same bundle and runtime that this one is compared with, FP32 first."""
        accepted = FLOAT_PRECISIONS[: FLOAT_PRECISIONS.index(self.precision)] if self.is_float else FLOAT_PRECISIONS
        found = [one for one in others if (one.bundle, one.runtime) == (self.bundle, self.runtime)]
        return sorted(
            (one for one in found if one.precision in accepted), key=lambda one: FLOAT_PRECISIONS.index(one.precision)
        )

    @property
    def is_float(self) -> bool:
        return self.precision in FLOAT_PRECISIONS


@dataclass(frozen=True)
class Score:
    """A student on a set."""

    quality: Quality
    shift_levels: tuple[float, ...]
    """Mean of (result - input) per channel, in 8-bit levels."""
    worst_shift_levels: float
    """The largest absolute shift of a channel over all images."""
    drop_db: float | None = None
    """PSNR of float on the same runtime, less this PSNR; None for float itself."""

    @property
    def largest_shift(self) -> float:
        """The shift of the channel that changes most, with its sign."""
        return max(self.shift_levels, key=abs)


@dataclass(frozen=True)
class SetResult:
    """All results on a set; a student that failed on it is missing."""

    name: str
    description: str
    images: int
    megapixels: float
    swept: int
    """Images on which the strengths of the peers were found."""
    peers: list[peers.Result]
    """The noisy input, and each peer at its best."""
    students: dict[str, Score]


@dataclass(frozen=True)
class Speed:
    """A method's time per megapixel."""

    wall: Latency
    cpu_p50_ms_per_mp: float
    """CPU time of all threads of the process."""
    speed_vs_float: float | None = None
    """Median over rounds of (time of the fastest float on the same runtime / this time); above 1 is faster."""


@dataclass
class Report:
    """The results in `students.json`, which is written after every set."""

    every: int
    side_px: int
    repeats: int
    students: list[Student]
    left_out: list[str]
    sets: list[SetResult] = field(default_factory=list)
    crops: list[SetResult] = field(default_factory=list)
    """Results on ten fixed crops of a set, with BM3D among the peers."""
    speeds: dict[str, Speed] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_results(folder, "students", self, peers.used_packages())


def open_students(bundles: list[Bundle], stack: ExitStack, left_out: list[str]) -> dict[Student, Callable[..., Any]]:
    """Open every variant that can run here; append the reason for each other one to `left_out`."""
    opened: dict[Student, Callable[..., Any]] = {}
    for bundle in bundles:
        stem = bundle.source.stem
        for variant in bundle.manifest.variants:
            try:
                denoiser = stack.enter_context(load_variant(bundle, variant.name, threads=THREADS))
            except EdgeDenoiseError as error:
                left_out.append(f"{stem} {variant.name} was left out: {error.one_line}")
                continue
            real = denoiser.effective
            student = Student(
                f"{stem} {variant.name}", stem, variant.name, variant.runtime, variant.precision,
                bundle.manifest.network, sum(record.size_bytes for record in bundle.variant_records(variant).values()),
                real.version, real.device, real.detail,
            )  # fmt: skip
            opened[student] = denoiser
    return opened


def measure(
    name: str, students: dict[Student, Callable[..., Any]], pairs: list[Pair], left_out: list[str]
) -> dict[str, Score]:
    """Run every student over a set, with one result in memory at a time."""
    failed: set[Student] = set()
    qualities: dict[Student, list[Quality]] = {student: [] for student in students}
    shifts: dict[Student, list[NDArray[np.float64]]] = {student: [] for student in students}
    for noisy, clean in pairs:
        for student, denoise in students.items():
            if student in failed:
                continue
            try:
                answer = denoise(noisy)
            except EdgeDenoiseError as error:
                failed.add(student)
                left_out.append(f"{student.label} failed on {name}: {error.one_line}")
                continue
            qualities[student].append(quality_of(answer, clean))
            shifts[student].append(np.mean(answer.astype(np.int16) - noisy, axis=(0, 1), dtype=np.float64))
    means = {student: mean_quality(qualities[student]) for student in students if student not in failed}
    return {
        student.label: Score(
            quality,
            tuple(float(shift) for shift in np.mean(shifts[student], axis=0)),
            float(np.abs(shifts[student]).max()),
            drop_db(student, means),
        )
        for student, quality in means.items()
    }


def drop_db(student: Student, means: dict[Student, Quality]) -> float | None:
    """Return the PSNR of FP32, or of FP16 where there is no FP32, less that of a student; None for the float itself."""
    floats = student.floats(means)
    if not floats:
        return None
    reference, own = means[floats[0]].psnr_db, means[student].psnr_db
    return 0.0 if reference == own else reference - own  # both may be infinite


def measure_set(
    chosen: ImageSet,
    pairs: list[Pair],
    students: dict[Student, Callable[..., Any]],
    classical: list[peers.Peer],
    left_out: list[str],
    sweep_every: int | None = None,
) -> SetResult:
    megapixels = sum(noisy.shape[0] * noisy.shape[1] for noisy, _ in pairs) / 1e6
    swept = pairs[:: sweep_every or (SWEEP_EVERY if megapixels > LARGE_MP else 1)]
    note(f"{chosen.name}: {len(pairs)} images, {megapixels:.1f} MP")
    start = time.perf_counter()
    scores = measure(chosen.name, students, pairs, left_out)
    note(f"{chosen.name}: {len(students)} variants took {time.perf_counter() - start:.0f} s")
    found = peers.best_of(classical, pairs, swept)
    return SetResult(chosen.name, chosen.description, len(pairs), megapixels, len(swept), found, scores)


# ---------------------------------------------------------------- time


def timed_crop(noisy: Pixels) -> Pixels:
    """Return an image of the side that is timed: cropped, or mirrored where it is too small."""
    grow = [(0, max(0, DEFAULT_SIDE_PX - side)) for side in noisy.shape[:2]]
    part = np.pad(noisy, [*grow, (0, 0)], mode="symmetric")[:DEFAULT_SIDE_PX, :DEFAULT_SIDE_PX]
    return np.ascontiguousarray(part)


def take_turns(methods: dict[str, Callable[..., Any]], pixels: Pixels, repeats: int) -> dict[str, Speed]:
    """Time every method once per round, in this process: peers are no variants of a bundle, which `bench` needs."""
    height, width = pixels.shape[:2]
    megapixels = height * width / 1e6
    cpu: dict[str, list[float]] = {label: [] for label in methods}

    def timed(label: str) -> Callable[[], float]:
        def run() -> float:
            start, cpu_start = time.perf_counter(), time.process_time()
            methods[label](pixels)
            took = time.perf_counter() - start
            cpu[label].append((time.process_time() - cpu_start) * 1000 / megapixels)
            return took * 1000

        return run

    wall = time_in_turns({label: timed(label) for label in methods}, repeats).samples
    return {
        label: Speed(Latency.of(wall[label], height, width), float(np.median(cpu[label][-repeats:])))
        for label in methods
    }


def measure_speeds(
    students: dict[Student, Callable[..., Any]], classical: list[peers.Peer], first: SetResult, noisy: Pixels,
    repeats: int,
) -> dict[str, Speed]:  # fmt: skip
    """Time the students that did not fail on a set, and the peers at their best for it."""
    methods = {student.label: run for student, run in students.items() if student.label in first.students}
    best = {result.name: max(result.sweep, key=result.sweep.__getitem__) for result in first.peers if result.sweep}
    for peer in classical:
        methods[peer.name] = lambda pixels, peer=peer: peer.run(pixels, best[peer.name])
    speeds = take_turns(methods, timed_crop(noisy), repeats)
    for student in students:
        floats = [other.label for other in student.floats(students) if other.label in speeds]
        if floats and student.label in speeds:
            own = speeds[student.label]
            fastest = min((speeds[label].wall for label in floats), key=lambda wall: wall.p50_ms_per_mp)
            ratio = speed_ratio(fastest.samples_ms_per_mp, own.wall.samples_ms_per_mp)
            speeds[student.label] = replace(own, speed_vs_float=ratio)
    return speeds
