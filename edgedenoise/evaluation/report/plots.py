"""Geometry of the plots of a report; `plots.html.j2` draws them as SVG.

Coordinates are those of a view box 400 wide. Text keeps a readable size on a phone, where the plot fills the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.evaluation.report.summary import DeviceSummary

WIDTH = 400.0
_LEFT, _RIGHT, _TOP = 46.0, 12.0, 16.0
_SCATTER_HEIGHT, _SCATTER_BOTTOM = 300.0, 262.0
_ROW = 38.0
_CHARACTER = 6.4  # width of a character of a label
_LABEL_HEIGHT = 12.0
_LARGEST_RADIUS = 15.0
_LOGARITHMIC = 8.0  # ratio of the largest to the smallest value from which an axis is logarithmic


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to coordinates, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...] = ()
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the coordinate of a value."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    @classmethod
    def of_times(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """Return an axis for positive values: from 0, or logarithmic where they differ much."""
        least, most = min(values), max(values)
        if most > _LOGARITHMIC * least:
            axis = cls(least / 1.3, most * 1.3, start, end, logarithmic=True)
            powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
            marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        else:
            step = _round_step(most * 1.1 / 5)
            axis = cls(0.0, most * 1.1, start, end)
            marks = [step * number for number in range(12)]
        return replace(axis, ticks=axis._ticks(marks))

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, least_span: float) -> Axis:
        """Return a linear axis around some values that spans at least `least_span`."""
        middle, span = (min(values) + max(values)) / 2, max(max(values) - min(values), least_span)
        axis = cls(middle - 0.7 * span, middle + 0.7 * span, start, end)
        step = _round_step(1.4 * span / 4)
        first = math.ceil(axis.low / step)
        return replace(axis, ticks=axis._ticks([step * (first + number) for number in range(12)]))

    def _ticks(self, marks: Sequence[float]) -> tuple[Tick, ...]:
        inside = [mark for mark in marks if self.low <= mark <= self.high * (1 + 1e-9)]
        return tuple(Tick(self.at(mark), f"{mark:.10g}") for mark in inside)


@dataclass(frozen=True)
class PlotPoint:
    """A variant in the scatter plot."""

    name: str
    x: float
    y: float
    radius: float
    kind: str
    """`float` or `int8`."""
    on_front: bool
    recommended: bool
    label_x: float
    label_y: float
    anchor: str
    title: str


@dataclass(frozen=True)
class Scatter:
    """Quality against time, with the Pareto front."""

    height: float
    bottom: float
    left: float
    right: float
    x: Axis
    y: Axis
    y_label: str
    points: tuple[PlotPoint, ...]
    front: str
    """Points of a polyline."""
    summary: str
    """The same in words, for those who cannot see it."""


def scatter(device: DeviceSummary, recommended: str) -> Scatter | None:
    """Return the scatter plot of a device, or None when fewer than two variants have both quality and time.

    Without ground truth, the quality of the float reference itself is not known and it is left out.
    """
    known = [(one, one.p50, one.quality_db) for one in device.measured()]
    shown = [(one, ms, quality) for one, ms, quality in known if ms is not None and quality is not None]
    if len(shown) < 2:
        return None
    x = Axis.of_times([ms for _, ms, _ in shown], _LEFT, WIDTH - _RIGHT)
    y = Axis.around([quality for *_, quality in shown], _SCATTER_BOTTOM, _TOP, least_span=0.2)
    front = pareto([(ms, quality) for _, ms, quality in shown])
    largest = max(one.result.size_bytes for one, *_ in shown)
    radii = [max(3.0, _LARGEST_RADIUS * math.sqrt(one.result.size_bytes / largest)) for one, *_ in shown]
    places = _labels(
        [(x.at(ms), y.at(quality), radius, one.name) for (one, ms, quality), radius in zip(shown, radii, strict=True)]
    )
    points = tuple(
        PlotPoint(
            name=one.name,
            x=x.at(ms),
            y=y.at(quality),
            radius=radii[at],
            kind="float" if one.is_float else "int8",
            on_front=at in front,
            recommended=one.name == recommended,
            label_x=place[0],
            label_y=place[1],
            anchor=place[2],
            title=f"{one.name}: {ms:.0f} ms/MP, {quality:.2f} dB, {one.result.size_bytes / 1024:.0f} KB",
        )
        for at, ((one, ms, quality), place) in enumerate(zip(shown, places, strict=True))
    )
    measure = "PSNR" if device.has_truth else "PSNR to float"
    return Scatter(
        height=_SCATTER_HEIGHT,
        bottom=_SCATTER_BOTTOM,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        x=x,
        y=y,
        y_label=f"{measure}, dB",
        points=points,
        front=" ".join(f"{points[at].x:.1f},{points[at].y:.1f}" for at in front),
        summary=f"{measure} against time per megapixel. " + "; ".join(point.title for point in points) + ".",
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the points that no other one beats in both time and quality, fastest first.

    Args:
        points: (time, quality) of each.

    Example:
        >>> pareto([(10, 30.0), (20, 29.0), (30, 31.0)])
        [0, 2]
    """
    front: list[int] = []
    best = -math.inf
    for at in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1])):
        if points[at][1] > best:
            front.append(at)
            best = points[at][1]
    return front


@dataclass(frozen=True)
class LatencyRow:
    """Samples of one variant."""

    name: str
    kind: str
    y: float
    samples: tuple[float, ...]
    low: float
    """Coordinates of the 25th percentile, the median, the 75th and the 90th; None for too few samples."""
    median: float
    high: float
    p90: float | None
    text: str


@dataclass(frozen=True)
class LatencyPlot:
    """The distribution of the times of each variant."""

    height: float
    left: float
    right: float
    x: Axis
    rows: tuple[LatencyRow, ...]
    summary: str


def latency_plot(device: DeviceSummary) -> LatencyPlot | None:
    """Return the latency plot of a device, fastest first; None when nothing was timed."""
    timed = device.measured()
    if not timed:
        return None
    left = _RIGHT
    x = Axis.of_times([ms for one in timed for ms in one.ms_per_mp], left, WIDTH - _RIGHT)
    rows = []
    for number, one in enumerate(timed):
        low, median, high = (float(value) for value in np.percentile(one.ms_per_mp, [25, 50, 75]))
        p90, count = one.p90, len(one.ms_per_mp)
        known = f"median {median:.0f}" if p90 is None else f"median {median:.0f}, p90 {p90:.0f}"
        rows.append(
            LatencyRow(
                name=one.name,
                kind="float" if one.is_float else "int8",
                y=_TOP + number * _ROW,
                samples=tuple(x.at(ms) for ms in one.ms_per_mp),
                low=x.at(low),
                median=x.at(median),
                high=x.at(high),
                p90=None if p90 is None else x.at(p90),
                text=f"{known} ms/MP, {count} sample{'' if count == 1 else 's'}",
            )
        )
    summary = "Milliseconds per megapixel. " + "; ".join(f"{row.name}: {row.text}" for row in rows) + "."
    return LatencyPlot(_TOP + len(rows) * _ROW + 22, left, WIDTH - _RIGHT, x, tuple(rows), summary)


@dataclass(frozen=True)
class _Box:
    """A rectangle on the page."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def _labels(points: Sequence[tuple[float, float, float, str]]) -> list[tuple[float, float, str]]:
    """Return (x, y, anchor) of the label of each point (x, y, radius, name), so that it covers no point and no label.

    A label is beside its point, or else above or below it, as near as possible.
    """
    taken = [_Box(x - radius, y - radius, x + radius, y + radius) for x, y, radius, _ in points]
    places: list[tuple[float, float, str]] = []
    for x, y, radius, name in points:
        width = _CHARACTER * len(name)
        beside = [("start", x + radius + 6, y + 4), ("end", x - radius - 6, y + 4)]
        rows = [radius + 6 + _LABEL_HEIGHT * row for row in range(6)]
        middle = min(max(x, width / 2), WIDTH - width / 2)
        around = [("middle", middle, at) for row in rows for at in (y - row, y + row + _LABEL_HEIGHT - 4)]
        options = [(place, _label_box(*place, width)) for place in (*beside, *around)]
        free = (
            (place, box)
            for place, box in options
            if box.left >= 0 and box.right <= WIDTH and box.top >= 0 and box.bottom <= _SCATTER_BOTTOM
            if not any(box.meets(other) for other in taken)
        )
        (anchor, label_x, label_y), box = next(free, options[0])
        taken.append(box)
        places.append((label_x, label_y, anchor))
    return places


def _label_box(anchor: str, x: float, y: float, width: float) -> _Box:
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return _Box(left, y - _LABEL_HEIGHT + 2, left + width, y + 2)


def _round_step(rough: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, at least as large as a rough one."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
