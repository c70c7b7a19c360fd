"""Parallel coordinates: an axis per key, a line per trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recrun.experiments.reports.charts import BOTTOM, HEIGHT, TOP, WIDTH, Chart, Label, Line, Tick

BEST, OTHER, STOPPED = "#c2410c", "#8fb3e8", "#d5dae0"  # of a line
MARGIN = 38.0  # beside the first and the last axis
GAP = 14.0  # above and below an axis, for its limits
LOG_RATIO = 30.0  # an axis of positive numbers with a larger one is logarithmic
LONGEST = 13  # characters of a text beside an axis


@dataclass(frozen=True)
class Axis:
    """A key and its value in each trial; texts that are no numbers keep the order in which they first come."""

    name: str
    values: Sequence[str]

    def heights(self) -> list[float]:
        """From 0 to 1; not a number where there is no value."""
        numbers = [as_float(value) for value in self.values]
        words = list(dict.fromkeys(value for value in self.values if value))
        if any(math.isnan(number) for number, value in zip(numbers, self.values, strict=True) if value):
            numbers = [float(words.index(value)) if value else math.nan for value in self.values]
        elif is_logarithmic(numbers):
            numbers = [math.log(number) if not math.isnan(number) else number for number in numbers]
        known = [number for number in numbers if math.isfinite(number)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        return [0.5 if high == low and math.isfinite(one) else (one - low) / ((high - low) or 1) for one in numbers]

    def limits(self) -> tuple[str, str]:
        """What is at the ends of the axis."""
        pairs = [(at, value) for at, value in zip(self.heights(), self.values, strict=True) if not math.isnan(at)]
        if not pairs:
            return "", ""
        return min(pairs)[1], max(pairs)[1]


def parallel_chart(title: str, axes: Sequence[Axis], colours: Sequence[str]) -> Chart | None:
    """A line per trial over the axes, in its colour; lines of the best are drawn last. None without trials.

    Args:
        title: Of the chart.
        axes: At least two, each with a value for every trial; trials without one of them are left out.
        colours: By trial: BEST, OTHER or STOPPED.
    """
    if len(axes) < 2 or not colours:
        return None
    step = (WIDTH - 2 * MARGIN) / (len(axes) - 1)
    across = [MARGIN + step * at for at in range(len(axes))]
    top, floor = TOP + GAP, HEIGHT - BOTTOM - GAP
    heights = [axis.heights() for axis in axes]
    drawn: list[tuple[int, Line]] = []
    for trial, colour in enumerate(colours):
        places = [(x, floor - own[trial] * (floor - top)) for x, own in zip(across, heights, strict=True)]
        if all(math.isfinite(y) for _, y in places):
            order = (STOPPED, OTHER, BEST).index(colour)
            drawn.append((order, Line("", " ".join(f"{x:.1f},{y:.1f}" for x, y in places), colour=colour)))
    ticks = tuple(Tick(x, cut(axis.name.rpartition(".")[2])) for x, axis in zip(across, axes, strict=True))
    labels = [
        Label(x, y, cut(text))
        for x, axis in zip(across, axes, strict=True)
        for y, text in zip((floor + 11, top - 4), axis.limits(), strict=True)
    ]
    lines = tuple(line for _, line in sorted(drawn, key=lambda one: one[0]))
    return Chart(title, "", ticks, (), lines, labels=tuple(labels), left=MARGIN, legend=False) if lines else None


def is_logarithmic(numbers: Sequence[float]) -> bool:
    """Whether numbers are positive and far apart."""
    known = [number for number in numbers if not math.isnan(number)]
    return bool(known) and min(known) > 0 and max(known) / min(known) > LOG_RATIO


def as_float(value: str) -> float:
    """A number, or not a number."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def cut(text: str) -> str:
    """A text that is not too long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
