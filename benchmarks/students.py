"""The project's networks and classical denoisers side by side: `python benchmarks/students.py B.edge ... --out DIR`.

Every variant of every bundle, on real noise (PolyU, SIDD), on camera noise of four strengths added to Kodak's
images, and on those images as they are: PSNR and SSIM, what INT8 loses to float on the same runtime, how
far the mean colour moves, and milliseconds per megapixel. The peers are those of `peers.py`, with the strength that is
best for each set. Quality is the project's own, on clipped, rounded 8-bit sRGB. Synthetic noise is seeded by image
and strength: another run makes the same.

Time is that of the whole call, 8-bit image in and out, all methods in turns in one process with one thread each. The
processor's time stands beside the wall's: where the two differ, other work was in the way.

Images are read from $EDGEDENOISE_DATA. Tables go to stdout, `students.json` and `students.png` to DIR.
"""

from __future__ import annotations

import peers  # before numpy is loaded: it tells numpy the number of threads

# isort: split

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from camera_noise import DATA
from students_plot import Panel, Point, draw
from students_tables import BM3D_PUBLISHED_DB, POLYU_CROPS, text

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import load_variant
from edgedenoise.errors import EdgeDenoiseError, UsageError
from edgedenoise.evaluation.bench import DEFAULT_REPEATS, DEFAULT_SIDE_PX
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.evaluation.measurement import Latency
from edgedenoise.files import check_writable, write_bytes
from edgedenoise.imaging.files import list_images, read_image
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import Quality, mean_quality, psnr, ssim
from edgedenoise.imaging.pairs import list_comparable, list_pairs
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.runtimes.timing import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from peers import Pair, Picture

    from edgedenoise.bundles.manifest import NetworkInfo, Precision

THREADS = 1
LARGE_MP = 4
SWEEP_EVERY = 5
"""Peers' strengths are found on every fifth image of a set of more than `LARGE_MP` megapixels."""
MAIN_SETS = ("polyu_test", "sidd_dev")
"""Those that are drawn, and that BM3D is run on crops of."""
SCENE_DISJOINT = ("Canon600D_*", "Sony_*_toy_*", "Sony_*_waterhouse_*")
"""Crops of `polyu_test` that show no scene of `polyu_train`."""
RUNTIMES = {"onnxruntime": ("ORT", "o"), "openvino": ("OpenVINO", "s")}
"""Runtime -> its label and marker in the plot."""


# ---------------------------------------------------------------- the images


@dataclass(frozen=True)
class PictureSet:
    """Noisy images with their ground truth."""

    name: str
    what: str
    folder: str
    """Where the first images to be looked for are, below $EDGEDENOISE_DATA."""
    read: Callable[[int], list[Pair]]
    """Called with N, to read every N-th."""


def real_pairs(folder: str, names: tuple[str, ...], every: int) -> list[Pair]:
    paths = list_pairs(DATA / folder / "noisy", DATA / folder / "clean")
    pairs = zip(paths, peers.read_pairs(DATA / folder), strict=True)
    return [pair for (path, _), pair in pairs if any(fnmatch(path.name, name) for name in names)][::every]


def kodak_pairs(target_db: int | None, every: int) -> list[Pair]:
    """Read Kodak's images and add noise up to a PSNR of `target_db`, or none."""
    pairs = []
    for number, path in list(enumerate(list_images(DATA / "kodak24")))[::every]:
        clean = from_unit(read_image(path).unit(), np.uint8)
        noisy = clean
        if target_db is not None:
            rng = np.random.default_rng([target_db, number])
            parameters = parameters_for_psnr(clean, target_db, rng)
            noisy = from_unit(add_camera_noise(clean, parameters, rng), np.uint8)
        pairs.append((noisy, clean))
    return pairs


def _kodak(target_db: int) -> PictureSet:
    what = f"Kodak24 with camera noise of {target_db} dB"
    return PictureSet(f"kodak24_{target_db}", what, "kodak24", partial(kodak_pairs, target_db))


def _real(name: str, what: str, folder: str, names: tuple[str, ...] = ("*",)) -> PictureSet:
    return PictureSet(name, what, f"{folder}/noisy", partial(real_pairs, folder, names))


SETS = {
    one.name: one
    for one in (
        _real("polyu_test", "PolyU's published crops", "polyu_test"),
        _real("polyu_disjoint", "those whose scene is not in polyu_train", "polyu_test", SCENE_DISJOINT),
        _real("sidd_dev", "blocks of one smartphone scene", "sidd_dev"),
        *(_kodak(target_db) for target_db in (20, 26, 32, 38)),
        PictureSet("kodak24_clean", "Kodak24 as it is", "kodak24", partial(kodak_pairs, None)),
    )
}


# ---------------------------------------------------------------- what is measured


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
    """Of all the variant's files."""
    runtime_version: str
    device: str
    detail: str

    def is_float_of(self, other: Student) -> bool:
        return (self.bundle, self.runtime, self.precision) == (other.bundle, other.runtime, "fp32")


@dataclass(frozen=True)
class Score:
    """A student on a set."""

    quality: Quality
    shift_levels: tuple[float, ...]
    """Mean of answer - input, per channel, in 8-bit levels."""
    worst_shift_levels: float
    """The largest absolute shift of a channel of one image."""
    drop_db: float | None = None
    """PSNR of float on the same runtime, less this; None for float itself."""

    @property
    def largest_shift(self) -> float:
        """The shift of the channel that moves most, with its sign."""
        return max(self.shift_levels, key=abs)


@dataclass(frozen=True)
class SetResult:
    """Everything on a set. A student that failed on it is missing."""

    name: str
    what: str
    pictures: int
    megapixels: float
    swept: int
    """Images that the peers' strengths were found on."""
    peers: list[peers.Result]
    """The noisy input, and each peer at its best."""
    students: dict[str, Score]


@dataclass(frozen=True)
class Speed:
    """A method's time per megapixel."""

    wall: Latency
    cpu_p50_ms_per_mp: float
    """Of all threads of the process."""
    speed_vs_float: float | None = None
    """Median over rounds of float time / this time, same runtime: above 1 is faster."""


@dataclass
class Report:
    """What `students.json` holds; it is written after every set, and grows."""

    every: int
    side_px: int
    repeats: int
    students: list[Student]
    left_out: list[str]
    sets: list[SetResult] = field(default_factory=list)
    crops: list[SetResult] = field(default_factory=list)
    """Ten fixed crops of a set, with BM3D among the peers."""
    speeds: dict[str, Speed] = field(default_factory=dict)
    environment: Environment | None = None
    """As the times were taken."""
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        self.versions = peers.versions()
        data = msgspec.json.format(msgspec.json.encode(self), indent=1)  # an infinite PSNR becomes null
        write_bytes(folder / "students.json", data + b"\n")


def open_students(bundles: list[Bundle], stack: ExitStack, left_out: list[str]) -> dict[Student, Callable[..., Any]]:
    """Open every variant that can run here; why another cannot goes to `left_out`."""
    opened: dict[Student, Callable[..., Any]] = {}
    for bundle in bundles:
        stem = bundle.source.stem
        for variant in bundle.manifest.variants:
            try:
                denoiser = stack.enter_context(load_variant(bundle, variant.name, threads=THREADS))
            except EdgeDenoiseError as error:
                left_out.append(f"{stem} {variant.name} was left out: {one_line(error)}")
                continue
            real = denoiser.effective
            student = Student(
                f"{stem} {variant.name}", stem, variant.name, variant.runtime, variant.precision,
                bundle.manifest.network, sum(record.size_bytes for record in bundle.variant_records(variant).values()),
                real.version, real.device, real.detail,
            )  # fmt: skip
            opened[student] = denoiser
    return opened


def one_line(error: EdgeDenoiseError) -> str:
    return "; ".join(str(error).splitlines())


def measure(
    name: str, students: dict[Student, Callable[..., Any]], pairs: list[Pair], left_out: list[str]
) -> dict[str, Score]:
    """Run every student over a set, one answer in memory at a time."""
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
                left_out.append(f"{student.label} failed on {name}: {one_line(error)}")
                continue
            qualities[student].append(Quality(psnr(answer, clean), ssim(answer, clean)))
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
    if student.precision == "fp32":
        return None
    mine = means[student].psnr_db
    floats = [quality.psnr_db for other, quality in means.items() if other.is_float_of(student)]
    if not floats:
        return None
    return 0.0 if floats[0] == mine else floats[0] - mine  # both may be infinite


def measure_set(
    chosen: PictureSet,
    pairs: list[Pair],
    students: dict[Student, Callable[..., Any]],
    classical: list[peers.Peer],
    left_out: list[str],
    sweep_every: int | None = None,
) -> SetResult:
    megapixels = sum(noisy.shape[0] * noisy.shape[1] for noisy, _ in pairs) / 1e6
    swept = pairs[:: sweep_every or (SWEEP_EVERY if megapixels > LARGE_MP else 1)]
    peers.tell(f"{chosen.name}: {len(pairs)} images, {megapixels:.1f} MP")
    start = time.perf_counter()
    scores = measure(chosen.name, students, pairs, left_out)
    peers.tell(f"{chosen.name}: {len(students)} variants took {time.perf_counter() - start:.0f} s")
    found = peers.best_of(classical, pairs, swept)
    return SetResult(chosen.name, chosen.what, len(pairs), megapixels, len(swept), found, scores)


# ---------------------------------------------------------------- time


def timed_picture(noisy: Picture) -> Picture:
    """Return an image of the side that is timed: cropped, or mirrored where it is too small."""
    grow = [(0, max(0, DEFAULT_SIDE_PX - side)) for side in noisy.shape[:2]]
    part = np.pad(noisy, [*grow, (0, 0)], mode="symmetric")[:DEFAULT_SIDE_PX, :DEFAULT_SIDE_PX]
    return np.ascontiguousarray(part)


def take_turns(methods: dict[str, Callable[..., Any]], picture: Picture, repeats: int) -> dict[str, Speed]:
    """Time every method once per round, as `edgedenoise.evaluation.bench` does, but in this process and peers too."""
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    wall: dict[str, list[float]] = {label: [] for label in methods}
    cpu: dict[str, list[float]] = {label: [] for label in methods}
    for round_ in range(WARM_UP + repeats):
        for label, run in methods.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            run(picture)
            took, cpu_took = time.perf_counter() - start, time.process_time() - cpu_start
            if round_ >= WARM_UP:
                wall[label].append(took * 1000 / megapixels)
                cpu[label].append(cpu_took * 1000 / megapixels)
        peers.tell(f"times: round {round_ + 1} of {WARM_UP + repeats}")
    return {label: Speed(Latency.of(wall[label]), float(np.median(cpu[label]))) for label in methods}


def measure_speeds(
    students: dict[Student, Callable[..., Any]], classical: list[peers.Peer], first: SetResult, noisy: Picture,
    repeats: int,
) -> dict[str, Speed]:  # fmt: skip
    """Time the students that did not fail on a set, and the peers at their best for it."""
    methods = {student.label: run for student, run in students.items() if student.label in first.students}
    best = {result.name: max(result.sweep, key=result.sweep.__getitem__) for result in first.peers if result.sweep}
    for peer in classical:
        methods[peer.name] = lambda picture, peer=peer: peer.run(picture, best[peer.name])
    speeds = take_turns(methods, timed_picture(noisy), repeats)
    for student in students:
        floats = [other.label for other in students if other.is_float_of(student) and other.label in speeds]
        if student.precision != "fp32" and floats and student.label in speeds:
            mine = speeds[student.label]
            times = [np.array(one.wall.samples_ms_per_mp) for one in (speeds[floats[0]], mine)]
            speeds[student.label] = Speed(mine.wall, mine.cpu_p50_ms_per_mp, float(np.median(times[0] / times[1])))
    return speeds


# ---------------------------------------------------------------- the plot


def points_of(report: Report, one: SetResult) -> list[Point]:
    bundles = list(dict.fromkeys(student.bundle for student in report.students))
    points = []
    for student in report.students:
        if student.label not in one.students or student.label not in report.speeds:
            continue
        runtime, marker = RUNTIMES.get(student.runtime, (student.runtime, "^"))
        precision = {"fp32": "float", "int8": "INT8"}.get(student.precision, student.precision)
        time_ms = report.speeds[student.label].wall.p50_ms_per_mp
        db = one.students[student.label].quality.psnr_db
        colour = f"C{bundles.index(student.bundle)}"
        label = f"{student.bundle} {precision} {runtime}"
        points.append(Point(label, time_ms, db, colour, marker, student.precision != "int8"))
    timed = [result for result in one.peers if result.name in report.speeds]
    return points + [
        Point(result.name, report.speeds[result.name].wall.p50_ms_per_mp, result.quality.psnr_db, "0.35", "D")
        for result in timed
    ]


def panels_of(report: Report) -> list[Panel]:
    """Return what is drawn: a panel for each of the main sets that something was measured on."""
    panels = []
    for one in report.sets:
        points = points_of(report, one) if one.name in MAIN_SETS else []
        if not points:
            continue
        noisy = one.peers[0].quality.psnr_db
        whole = one.name == "polyu_test" and one.pictures == POLYU_CROPS  # on a part of them it would mislead
        lines = {f"BM3D, published: {BM3D_PUBLISHED_DB:.2f} dB": BM3D_PUBLISHED_DB} if whole else {}
        title = f"{one.name}: {one.pictures} images, noisy input {noisy:.2f} dB"
        panels.append(Panel(title, points, lines))
    return panels


# ---------------------------------------------------------------- the command


def chosen_sets(names: str) -> list[PictureSet]:
    unknown = [name for name in names.split(",") if name not in SETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no set {unknown[0]!r}; accepted: {', '.join(SETS)}")
    return [SETS[name] for name in dict.fromkeys(names.split(","))]


def positive(number: str) -> int:
    value = int(number)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} was given; accepted: 1 or more")
    return value


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The project's networks beside each other and beside classical denoisers.", allow_abbrev=False
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE.edge")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for students.json and students.png")
    parser.add_argument(
        "--sets", type=chosen_sets, default=list(SETS.values()), metavar="NAME,NAME", help=f"of {', '.join(SETS)}"
    )
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    parser.add_argument("--repeats", type=positive, default=DEFAULT_REPEATS, metavar="N", help="rounds that are timed")
    classical = parser.add_mutually_exclusive_group()
    classical.add_argument("--no-peers", action="store_true", help="without OpenCV and scikit-image")
    classical.add_argument(
        "--bm3d", action="store_true", help=f"BM3D too, on ten fixed crops of {', '.join(MAIN_SETS)}"
    )
    return parser.parse_args(arguments)


def open_bundles(paths: list[str]) -> list[Bundle]:
    bundles = [Bundle.open(path) for path in paths]
    stems = [bundle.source.stem for bundle in bundles]
    twice = [stem for stem in stems if stems.count(stem) > 1]
    if twice:
        raise UsageError(f"two bundles are called {twice[0]}", hint="rename one: rows are called by the bundle's name")
    return bundles


def run(options: argparse.Namespace, stack: ExitStack) -> Report:
    check_writable(options.out / "students.json")
    asked = [] if options.no_peers else list(peers.PEERS)
    left_out = [peers.missing_line(peer) for peer in [*asked, *[peers.BM3D] * options.bm3d] if peer.missing]
    students = open_students(open_bundles(options.bundles), stack, left_out)
    for line in left_out:
        peers.tell(line)
    if not students:
        raise UsageError("no variant of these bundles can run here")
    classical = [peer for peer in asked if not peer.missing]
    report = Report(options.every, DEFAULT_SIDE_PX, options.repeats, list(students), left_out)
    first_noisy = None
    for chosen in options.sets:
        pairs = chosen.read(options.every)
        if first_noisy is None:
            first_noisy = pairs[0][0]
        report.sets.append(measure_set(chosen, pairs, students, classical, left_out))
        report.write(options.out)
        if options.bm3d and chosen.name in MAIN_SETS:
            with_bm3d = [*classical, *[peers.BM3D] * (not peers.BM3D.missing)]
            crops = peers.fixed_crops(pairs)
            report.crops.append(measure_set(chosen, crops, students, with_bm3d, left_out, sweep_every=1))
            report.write(options.out)
    if first_noisy is not None:
        report.environment = environment()
        report.speeds = measure_speeds(students, classical, report.sets[0], first_noisy, options.repeats)
    report.write(options.out)
    return report


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    try:
        for chosen in options.sets:  # a folder that is missing is told now, not after an hour
            list_comparable(DATA / chosen.folder)
        with ExitStack() as stack:
            report = run(options, stack)
        print(text(report))
        if not draw(panels_of(report), options.out / "students.png"):
            peers.tell(f"students.png was not drawn: it shows {' and '.join(MAIN_SETS)}, and neither was measured")
    except EdgeDenoiseError as error:
        peers.tell(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
