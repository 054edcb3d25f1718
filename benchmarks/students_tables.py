"""Format the results of `students.py` as Markdown tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import peers
from harness import markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Provenance
    from students_measure import Report, Score, SetResult, Speed

    from edgedenoise.imaging.metrics import Quality

BM3D_PUBLISHED_DB = 37.40
"""Published PSNR on all crops of `polyu_test`."""
POLYU_CROPS = 100


def decimals(value: float, form: str = ".2f") -> str:
    return format(round(value, 2) + 0.0, form)  # the sum takes the sign from -0.00


def networks_table(report: Report) -> str:
    header = ["method", "network", "parameters", "kMAC/pixel", "KB", "ms/MP p50", "p90", "CPU p50", "vs float"]
    rows = []
    for student in report.students:
        network = student.network
        cells = [student.label, network.name, f"{network.parameters:,}", f"{network.macs_per_px / 1000:.1f}"]
        rows.append([*cells, f"{student.size_bytes / 1024:.0f}", *speed_cells(report.speeds.get(student.label))])
    known = {student.label for student in report.students}
    rows += [[label, *[""] * 4, *speed_cells(speed)] for label, speed in report.speeds.items() if label not in known]
    return markdown_table(header, rows)


def speed_cells(speed: Speed | None) -> list[str]:
    if speed is None:
        return ["", "", "", ""]
    ratio = "" if speed.speed_vs_float is None else f"{speed.speed_vs_float:.2f}x"
    times = (speed.wall.p50_ms_per_mp, speed.wall.p90_ms_per_mp, speed.cpu_p50_ms_per_mp)
    return [*("-" if value is None else f"{value:.0f}" for value in times), ratio]


def quality_table(report: Report, cell: Callable[[Quality], str]) -> str:
    rows = []
    for position, result in enumerate(report.sets[0].peers):
        rows.append([result.name, *(cell(one.peers[position].quality) for one in report.sets)])
    return markdown_table(header_of(report), [rows[0], *student_rows(report, lambda s: cell(s.quality)), *rows[1:]])


def student_rows(report: Report, cell: Callable[[Score], str], *, quantized: bool = False) -> list[list[str]]:
    return [
        [student.label]
        + [cell(one.students[student.label]) if student.label in one.students else "failed" for one in report.sets]
        for student in report.students
        if not (quantized and student.is_float)
    ]


def header_of(report: Report) -> list[str]:
    return ["method", *(one.name for one in report.sets)]


def settings_table(report: Report) -> str:
    names = [result.name for result in report.sets[0].peers[1:]]
    rows = [[name, *(one.peers[at].setting for one in report.sets)] for at, name in enumerate(names, 1)]
    return markdown_table(header_of(report), rows)


def crops_table(crops: SetResult) -> str:
    rows = [peers.result_cells(one) for one in crops.peers]
    ours = [
        [label, "", f"{score.quality.psnr_db:.2f}", f"{score.quality.ssim:.4f}", ""]
        for label, score in crops.students.items()
    ]
    return markdown_table(["method", "best setting", "PSNR dB", "SSIM", "CPU ms/MP"], [rows[0], *ours, *rows[1:]])


def sets_table(report: Report) -> str:
    rows = [
        [one.name, one.description, str(one.images), f"{one.megapixels:.1f}", str(one.swept)] for one in report.sets
    ]  # fmt: skip
    return markdown_table(["set", "description", "images", "MP", "strength of peers found on"], rows)


def text(report: Report, made: Provenance) -> str:
    parts = [
        "## Sets" + (f" (one image in {report.every} only)" if report.every > 1 else ""), sets_table(report),
        f"## Size and time (rounds: {report.repeats}, at {report.side_px}x{report.side_px}, one thread)",
        networks_table(report),
        "## PSNR, dB", quality_table(report, lambda q: f"{q.psnr_db:.2f}"),
        "## SSIM", quality_table(report, lambda q: f"{q.ssim:.4f}"),
        "## Loss of INT8 to float on the same runtime, dB",
        students_table(report, lambda s: "" if s.drop_db is None else decimals(s.drop_db), quantized=True),
        "## Mean colour shift (result - input) of the channel that changes most, 8-bit levels",
        students_table(report, lambda s: decimals(s.largest_shift, "+.2f")),
    ]  # fmt: skip
    if len(report.sets[0].peers) > 1:
        parts += ["## Best strength of the peers, chosen against the ground truth", settings_table(report)]
    if any(one.name == "polyu_test" for one in report.sets):
        parts += [f"BM3D, as published for the {POLYU_CROPS} crops of polyu_test: {BM3D_PUBLISHED_DB:.2f} dB."]
    for crops in report.crops:
        parts += [f"## {crops.images} fixed crops of {peers.CROP_PX}x{peers.CROP_PX} of {crops.name}"]
        parts += [crops_table(crops)]
    return "\n\n".join([*parts, closing(report, made)])


def students_table(report: Report, cell: Callable[[Score], str], *, quantized: bool = False) -> str:
    return markdown_table(header_of(report), student_rows(report, cell, quantized=quantized))


def closing(report: Report, made: Provenance) -> str:
    """Return what was left out, the machine, and a warning when other work was running."""
    machine = made.environment
    packages = machine.packages | made.versions
    lines = [
        *report.left_out,
        f"{machine.cpu}, {machine.cores} cores; {', '.join(f'{k} {v}' for k, v in packages.items())}",
    ]
    load = machine.load_average
    if load is not None and load > 0.75 * machine.cores:
        lines.append(f"The load was {load:.1f} on {machine.cores} cores: trust the ratios only.")
    return "\n".join(lines)
