"""Draw quality against time with a label at every point, for `students.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from image_sets import MAIN_SETS
from students_tables import BM3D_PUBLISHED_DB, POLYU_CROPS

from edgedenoise.atomic import atomic_file
from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from students_measure import Report, SetResult

    Box = tuple[float, float, float, float]
    """Left, bottom, right, top."""


RUNTIMES = {"onnxruntime": ("ORT", "o"), "openvino": ("OpenVINO", "s")}
"""Runtime -> its label and marker in the plot."""


@dataclass(frozen=True)
class Point:
    """A method on a panel."""

    label: str
    ms_per_mp: float
    psnr_db: float
    colour: str
    marker: str
    filled: bool = True


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    points: list[Point]
    lines: dict[str, float]
    """Horizontal lines: PSNR in dB by label."""


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
    """Return one panel per main set with results."""
    panels = []
    for one in report.sets:
        points = points_of(report, one) if one.name in MAIN_SETS else []
        if not points:
            continue
        noisy = one.peers[0].quality.psnr_db
        whole = one.name == "polyu_test" and one.images == POLYU_CROPS  # the published number is of all crops
        lines = {f"BM3D, published: {BM3D_PUBLISHED_DB:.2f} dB": BM3D_PUBLISHED_DB} if whole else {}
        title = f"{one.name}: {one.images} images, noisy input {noisy:.2f} dB"
        panels.append(Panel(title, points, lines))
    return panels


def draw(panels: list[Panel], target: Path) -> bool:
    """Write panels side by side as an image; return False when there are none.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if not panels:
        return False
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(
            "students.png was not drawn, because matplotlib is not installed",
            hint="Install it with: pip install matplotlib",
        ) from error
    figure = Figure(figsize=(8 * len(panels), 7.5), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_panel(axes, panel)
    figure.supxlabel("milliseconds per megapixel, one thread", fontsize=10)
    figure.suptitle("filled: float or classical, hollow: INT8; circle: ONNX Runtime, square: OpenVINO", fontsize=9)
    canvas.draw()  # lays out the figure; before this the places of points are not known
    figure.set_layout_engine("none")
    for axes, panel in zip(all_axes, panels, strict=True):
        label_points(axes, panel.points, canvas.get_renderer())
    with atomic_file(target) as temporary:
        figure.savefig(temporary, dpi=figure.dpi)
    return True


def draw_panel(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    for point in panel.points:
        face = point.colour if point.filled else "white"
        axes.plot(
            point.ms_per_mp, point.psnr_db, point.marker, color=point.colour, markerfacecolor=face, markersize=7
        )  # fmt: skip
    times = [point.ms_per_mp for point in panel.points]
    levels = [*(point.psnr_db for point in panel.points), *panel.lines.values()]
    for text, level in panel.lines.items():
        axes.axhline(level, color="0.6", linestyle=":", linewidth=1.2, zorder=0)
        axes.annotate(
            text, (0, level), (4, 3), ha="left", fontsize=8, xycoords=("axes fraction", "data"),
            textcoords="offset points", color="0.45",
        )  # fmt: skip
    margin = 0.12 * (max(levels) - min(levels)) + 0.1
    axes.set(xscale="log", xlim=(min(times) / 1.7, max(times) * 2.3), ylim=(min(levels) - margin, max(levels) + margin))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylabel("PSNR (dB)")
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label_points(axes: Any, points: list[Point], renderer: Any) -> None:
    """Write each label near its point where it covers least; a thin line connects a label that is far away."""
    inside: Box = axes.get_window_extent(renderer).extents
    taken: list[Box] = [written.get_window_extent(renderer).extents for written in axes.texts]
    taken += [(inside[0], bottom - 2, inside[2], bottom + 2) for bottom in level_lines(axes)]
    places = [tuple(axes.transData.transform((point.ms_per_mp, point.psnr_db))) for point in points]
    pixels = axes.figure.dpi / 72
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda both: both[1]):
        style = {"text": point.label, "xy": (point.ms_per_mp, point.psnr_db), "fontsize": 8, "color": point.colour}
        draft = axes.annotate(**style)
        width, height = draft.get_window_extent(renderer).size
        draft.remove()
        others = [
            around(place, 13) for place in places if place != (x, y)
        ]  # so that a label is nearest to its own point
        covered = [*taken, *others, around((x, y), 6)]
        box = min(boxes_around(x, y, width, height), key=lambda both: both[1] + cost(both[0], covered, inside))[0]
        taken.append(box)
        across, up = (box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y
        far = max(abs(across) - width / 2, abs(up) - height / 2) > 12
        line = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.5, "shrinkA": 0}
        axes.annotate(
            **style, xytext=(across / pixels, up / pixels), textcoords="offset points", ha="center", va="center",
            arrowprops=line if far else None,
        )  # fmt: skip


def level_lines(axes: Any) -> list[float]:
    """Return the height of horizontal lines, in pixels."""
    return [float(axes.transData.transform((1, line.get_ydata()[0]))[1]) for line in axes.lines if line.get_ls() == ":"]


def around(place: tuple[float, ...], margin: float) -> Box:
    x, y = place
    return x - margin, y - margin, x + margin, y + margin


def boxes_around(x: float, y: float, width: float, height: float) -> list[tuple[Box, float]]:
    """Return boxes around a point, each with the cost of its distance."""
    boxes = []
    for distance in (9, 16, 26, 38, 52, 68, 86, 106, 128, 152):
        for turn in range(16):
            across, up = math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)
            middle_x, middle_y = x + across * (distance + width / 2), y + up * (distance + height / 2)
            box = (middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)
            boxes.append((box, float(distance)))
    return boxes


def cost(box: Box, taken: list[Box], inside: Box) -> float:
    """Return the number of pixels of a box that cover others or are outside."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(overlap(box, other) for other in taken) + area - overlap(box, inside)


def overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
