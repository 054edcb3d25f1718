"""Compare the variants of bundles with each other and with classical denoisers.

    python benchmarks/students.py B.edge ...

Every variant of every bundle runs on real noise (PolyU, SIDD), on camera noise of four strengths added to Kodak24, and
on Kodak24 without noise. Measured are PSNR and SSIM on clipped, rounded 8-bit sRGB, the loss of INT8 to float on the
same runtime, the shift of the mean colour, and milliseconds per megapixel. The peers are those of `peers.py`, each with
the best strength for each set. Synthetic noise is seeded by image and strength, so another run makes the same noise.

Time is that of the whole call, 8-bit image in and out, with all methods interleaved in one process with one thread
each. CPU time is shown beside wall time: where the two differ, other work slowed the measurement.

Images are read from $EDGEDENOISE_DATA. Tables go to standard output, `students.json` and `students.png` to --out.
"""

from __future__ import annotations

import peers  # before numpy is loaded: it sets the number of threads

# isort: split

from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness import DATA, check_out, note, parser_of, positive, provenance, run_benchmark
from image_sets import HARM_SETS, MAIN_SETS, SETS, chosen_sets
from students_measure import Report, measure_set, measure_speeds, open_students
from students_plot import draw, panels_of
from students_tables import text

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import UsageError
from edgedenoise.evaluation.bench import DEFAULT_REPEATS, DEFAULT_SIDE_PX
from edgedenoise.imaging.pairs import list_comparable

if TYPE_CHECKING:
    import argparse


def options_of() -> argparse.Namespace:
    parser = parser_of("Compare the variants of bundles with each other and with classical denoisers.", "students")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE.edge")
    parser.add_argument(
        "--sets", type=chosen_sets, default=[one for name, one in SETS.items() if name not in HARM_SETS],
        metavar="NAME,NAME", help=f"of {', '.join(SETS)}",
    )  # fmt: skip
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="only every N-th image of a set")
    parser.add_argument("--repeats", type=positive, default=DEFAULT_REPEATS, metavar="N", help="rounds that are timed")
    classical = parser.add_mutually_exclusive_group()
    classical.add_argument("--no-peers", action="store_true", help="without OpenCV and scikit-image")
    classical.add_argument(
        "--bm3d", action="store_true", help=f"BM3D too, on ten fixed crops of {', '.join(MAIN_SETS)}"
    )
    return parser.parse_args()


def open_bundles(paths: list[str]) -> list[Bundle]:
    bundles = [Bundle.open(path) for path in paths]
    stems = [bundle.source.stem for bundle in bundles]
    twice = [stem for stem in stems if stems.count(stem) > 1]
    if twice:
        raise UsageError(f"two bundles are called {twice[0]}; expected different names", hint="Rename one of them.")
    return bundles


def run(options: argparse.Namespace, stack: ExitStack) -> Report:
    check_out(options.out, "students")
    asked = [] if options.no_peers else list(peers.PEERS)
    left_out = [peers.missing_line(peer) for peer in [*asked, *[peers.BM3D] * options.bm3d] if peer.missing]
    students = open_students(open_bundles(options.bundles), stack, left_out)
    for line in left_out:
        note(line)
    if not students:
        raise UsageError("no variant of these bundles can run here", hint="Check this machine with: edgedenoise doctor")
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
        report.speeds = measure_speeds(students, classical, report.sets[0], first_noisy, options.repeats)
    report.write(options.out)
    return report


def main() -> None:
    options = options_of()
    for chosen in options.sets:  # a missing folder is reported now and not after an hour
        list_comparable(DATA / chosen.folder)
    with ExitStack() as stack:
        report = run(options, stack)
    print(text(report, provenance(peers.used_packages())))
    if not draw(panels_of(report), options.out / "students.png"):
        note(f"students.png was not drawn: it shows {' and '.join(MAIN_SETS)}, and neither was measured")


if __name__ == "__main__":
    run_benchmark(main)
