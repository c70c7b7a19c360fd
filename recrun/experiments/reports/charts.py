"""Charts as coordinates of an SVG: numbers and texts alone, which a template draws and escapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 340.0, 190.0  # of the drawing, in units of which a line of text is 11 high: readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 54.0, 10.0, 10.0, 26.0
ROW = 34.0  # height of a line of an interval chart
MOST_TICKS = 5
BINS = 20
WIDEST_NAME = 52  # characters


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where it is, and what is beside it."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A point with a name."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: In the legend.
        points: "x,y x,y …".
        marks: Points that are drawn as dots.
        colour: Its own, instead of the next one in turn.
    """

    name: str
    points: str
    marks: tuple[Mark, ...] = ()
    colour: str = ""


@dataclass(frozen=True)
class Label:
    """A text in a chart, around its middle."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Lines, bars or intervals in a frame with axes.

    Attributes:
        named_rows: Whether the ticks of the y axis are names above the lines.
        labels: Texts in it.
        legend: Whether the names of the lines are below it.
    """

    title: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    named_rows: bool = False
    labels: tuple[Label, ...] = ()
    legend: bool = True

    @property
    def right_edge(self) -> float:
        """Where the frame ends; the template reads it."""
        return self.width - RIGHT

    @property
    def floor(self) -> float:
        """Where the x axis is."""
        return self.height - BOTTOM


@dataclass(frozen=True)
class Points:
    """A line before it is drawn: its name, its points, and the index of the point that is marked, if one is."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marked: int | None = None
    mark: str = ""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, low and high the same where there is none."""

    name: str
    value: float
    low: float
    high: float


def line_chart(
    title: str, x_name: str, given: Sequence[Points], dots: Sequence[Points] = (), whole: bool = True
) -> Chart | None:
    """Lines over a common axis; points that are no numbers are left out. None where nothing is left.

    Args:
        title: Of the chart.
        x_name: Of the x axis.
        given: The lines.
        dots: Points without a line between them.
        whole: Whether the x axis has whole numbers.
    """
    found, loose = with_points(given), with_points(dots)
    if not found and not loose:
        return None
    both = [*found, *loose]
    xs, ys = [x for points in both for x in points.x], [y for points in both for y in points.y]
    x_ticks, y_ticks = ticks(min(xs), max(xs), whole=whole), ticks(min(ys), max(ys))
    across, up = Scale.of(x_ticks, xs, LEFT, WIDTH - RIGHT), Scale.of(y_ticks, ys, HEIGHT - BOTTOM, TOP)
    lines = []
    for points in found:
        places = [(across(x), up(y)) for x, y in zip(points.x, points.y, strict=True)]
        chosen = [at for at in range(len(places)) if at == points.marked or len(places) == 1]
        lines.append(
            Line(
                points.name,
                " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
                tuple(Mark(*places[at], points.mark if at == points.marked else "") for at in chosen),
            )
        )
    for points in loose:
        marks = tuple(Mark(across(x), up(y), "") for x, y in zip(points.x, points.y, strict=True))
        lines.append(Line(points.name, "", marks))
    return Chart(title, x_name, across.ticks(x_ticks), up.ticks(y_ticks), tuple(lines))


def with_points(given: Sequence[Points]) -> list[Points]:
    """Those that have points that are numbers."""
    return [found for points in given if len((found := finite(points)).x)]


def finite(points: Points) -> Points:
    """The points that are numbers; the mark stays where it was."""
    kept = [
        at for at, (x, y) in enumerate(zip(points.x, points.y, strict=True)) if math.isfinite(x) and math.isfinite(y)
    ]
    marked = kept.index(points.marked) if points.marked in kept else None
    return Points(points.name, [points.x[at] for at in kept], [points.y[at] for at in kept], marked, points.mark)


def histogram(title: str, x_name: str, values: npt.NDArray[np.float64]) -> Chart:
    """How many units have which value."""
    counts, edges = np.histogram(values, bins=BINS)
    x_ticks, y_ticks = ticks(float(edges[0]), float(edges[-1])), ticks(0, float(counts.max(initial=1)), whole=True)
    across = Scale.of(x_ticks, edges.tolist(), LEFT, WIDTH - RIGHT)
    up = Scale.of(y_ticks, [0, *counts.tolist()], HEIGHT - BOTTOM, TOP)
    bars = []
    for count, begin, end in zip(counts.tolist(), edges.tolist(), edges[1:].tolist(), strict=False):
        box = (across(begin), up(count), max(across(end) - across(begin) - 1, 0.5), up(0) - up(count))
        bars.append(Bar(*box, f"{begin:.3g} to {end:.3g}: {count:,}"))
    return Chart(title, x_name, across.ticks(x_ticks), up.ticks(y_ticks), bars=tuple(bars))


def interval_chart(title: str, x_name: str, estimates: Sequence[Estimate], form: str = ".4f") -> Chart | None:
    """A row per estimate: its name and value, in some format, above, its interval as a line and its value as a dot."""
    if not estimates:
        return None
    ends = [end for one in estimates for end in (one.low, one.high)]
    x_ticks = ticks(min(ends), max(ends))
    across = Scale.of(x_ticks, ends, RIGHT, WIDTH - RIGHT)
    lines = []
    for at, one in enumerate(estimates):
        y = TOP + ROW * at + 24
        segment = f"{across(one.low):.1f},{y:.1f} {across(one.high):.1f},{y:.1f}"
        value = f"{one.value:{form}}"
        lines.append(Line(f"{one.name}: {value}", segment, (Mark(across(one.value), y, value),)))
    height = TOP + ROW * len(estimates) + BOTTOM
    names = tuple(Tick(TOP + ROW * at + 14, shortened(line.name)) for at, line in enumerate(lines))
    return Chart(title, x_name, across.ticks(x_ticks), names, tuple(lines), height=height, left=RIGHT, named_rows=True)


def shortened(name: str) -> str:
    """A name as long as a chart is wide; its end, with the value, stays."""
    return name if len(name) <= WIDEST_NAME else f"{name[: WIDEST_NAME - 21]}…{name[-20:]}"


@dataclass(frozen=True)
class Scale:
    """Values to coordinates."""

    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def of(cls, ticks: Sequence[float], values: Sequence[float], begin: float, end: float) -> Scale:
        """So that ticks and values are within; a single value is in the middle."""
        low, high = min(*ticks, *values), max(*ticks, *values)
        return cls(low - 0.5, high + 0.5, begin, end) if low == high else cls(low, high, begin, end)

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, values: Sequence[float]) -> tuple[Tick, ...]:
        """Their places and texts."""
        if len(values) == 1:
            return (Tick(self(values[0]), f"{values[0]:.4g}"),)
        decimals = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
        return tuple(Tick(self(value), text_of(value, decimals)) for value in values)


def text_of(value: float, decimals: int) -> str:
    """A number beside a tick, short enough for the margin."""
    return f"{value:.{decimals}f}" if abs(value) < 1e5 and decimals < 6 else f"{value:.3g}"


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers from at most `low` to `high`, at most some five: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) < MOST_TICKS + 1e-6)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)] or [low]
