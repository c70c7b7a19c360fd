"""What the page of a search shows besides that of a sweep: its history, which keys mattered, and the trials' values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from recrun.experiments.compare.runs import mapping, printable
from recrun.experiments.reports.charts import Chart, Estimate, Points, interval_chart, line_chart
from recrun.experiments.reports.page import Section
from recrun.experiments.reports.parallel import BEST, OTHER, STOPPED, Axis, parallel_chart
from recrun.experiments.reports.run_page import as_number
from recrun.runtime.run_files import inside, read_json

MOST_AXES = 4  # besides the value: as many as a phone is wide
BEST_SHARE = 0.1  # of the finished trials that are drawn as the best


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: Its number.
        values: What the search chose, by key.
        valid: Its metrics on validation.
        finished: Whether it was trained to its end, else it was stopped before.
    """

    number: int
    values: Mapping[str, str]
    valid: Mapping[str, Any]
    finished: bool


def search_sections(directory: Path) -> list[Section]:
    """The sections of a search that has ended; none for another sweep.

    Args:
        directory: The sweep's.
    """
    results_file = inside(directory, "results.json")
    search = mapping(read_json(inside(directory, "sweep.json")).get("search"))
    if not search or not results_file.is_file():
        return []
    results = read_json(results_file)
    rows = [mapping(row) for row in results.get("jobs") or () if isinstance(row, dict)]
    listed = search.get("objectives")
    monitors = [row["monitor"] for row in rows if isinstance(row.get("monitor"), str)]
    objectives = [str(name) for name in listed] if isinstance(listed, list) and listed else monitors[:1]
    found = list(trials(directory, rows, as_number(search.get("trials"))))
    lower = {name for row in rows for name in row.get("lower_is_better") or ()}
    front = [front_chart(objectives, found, results)] if len(objectives) > 1 else []
    importance = mapping(results.get("importance"))
    each = (charts_of(name, found, name in lower, mapping(importance.get(name))) for name in objectives)
    charts = [chart for chart in chain(front, *each) if chart is not None]
    stopped = sum(not trial.finished for trial in found)
    note = f"{len(found)} trials, {stopped} of them stopped early." if stopped else f"{len(found)} trials."
    return [Section("Search", note, tuple(charts))] if charts else []


def trials(directory: Path, rows: Sequence[Mapping[str, Any]], count: float) -> Iterator[Trial]:
    """The trials with a validation, in order; without those that train the best one with further seeds."""
    jobs = read_json(inside(directory, "sweep.json")).get("jobs")
    listed = map(mapping, jobs if isinstance(jobs, list) else ())
    chosen = {job.get("number"): mapping(job.get("values")) for job in listed}
    for row in rows:
        number, valid = row.get("job"), mapping(row.get("valid"))
        if not isinstance(number, int) or number >= count or not valid or number not in chosen:
            continue
        values = {printable(key): shown(value) for key, value in chosen[number].items()}
        yield Trial(number, values, valid, row.get("status") == "finished")


def charts_of(
    objective: str, found: Sequence[Trial], lower: bool, importance: Mapping[str, Any]
) -> Iterator[Chart | None]:
    """History, importance and parallel coordinates of one objective."""
    shares = {printable(key): as_number(share) for key, share in importance.items()}
    shares = {key: share for key, share in shares.items() if math.isfinite(share)}
    yield history_chart(objective, found, lower)
    estimates = [Estimate(key, share, 0.0, share) for key, share in shares.items()]
    yield interval_chart(f"importance for valid {objective} (PED-ANOVA)", "share", estimates)
    known = dict.fromkeys(key for trial in found for key in trial.values)
    keys = sorted(known, key=lambda key: -shares.get(key, 0.0))[:MOST_AXES]
    axes = [Axis(key, [trial.values.get(key, "") for trial in found]) for key in keys]
    values = [as_number(trial.valid.get(objective)) for trial in found]
    axes.append(Axis(objective, ["" if math.isnan(value) else f"{value:.4g}" for value in values]))
    title = f"trials: {', '.join(keys)} and valid {objective}, the best tenth in colour"
    yield parallel_chart(title, axes, colours(found, values, lower))


def colours(found: Sequence[Trial], values: Sequence[float], lower: bool) -> list[str]:
    """Of each trial's line."""
    finished = sorted(value for trial, value in zip(found, values, strict=True) if trial.finished and value == value)
    count = max(1, round(BEST_SHARE * len(finished)))
    best = set(finished[:count] if lower else finished[-count:])
    return [
        STOPPED if not trial.finished else BEST if value in best else OTHER
        for trial, value in zip(found, values, strict=True)
    ]


def history_chart(objective: str, found: Sequence[Trial], lower: bool) -> Chart | None:
    """The best so far over the trials, and each trial."""
    finished = [trial for trial in found if trial.finished]
    values = [as_number(trial.valid.get(objective)) for trial in finished]
    so_far: list[float] = []
    for value in values:
        before = so_far[-1] if so_far else math.nan
        so_far.append(value if not (before < value if lower else before > value) else before)
    numbers = [float(trial.number) for trial in finished]
    best = Points("best so far", numbers, so_far)
    stopped = [trial for trial in found if not trial.finished]
    return line_chart(
        f"history: valid {objective}",
        "trial",
        [best],
        [
            Points("finished", numbers, values),
            Points(
                "stopped early",
                [float(trial.number) for trial in stopped],
                [as_number(trial.valid.get(objective)) for trial in stopped],
            ),
        ],
    )


def front_chart(objectives: Sequence[str], found: Sequence[Trial], results: Mapping[str, Any]) -> Chart | None:
    """All trials by the first two objectives, those of the front apart."""
    front = {job for best in results.get("front") or () for job in mapping(best).get("jobs") or ()}
    groups = {"Pareto front": True, "other trials": False}
    points = [
        Points(
            name,
            [as_number(trial.valid.get(objectives[0])) for trial in found if (trial.number in front) is inside_front],
            [as_number(trial.valid.get(objectives[1])) for trial in found if (trial.number in front) is inside_front],
        )
        for name, inside_front in groups.items()
    ]
    return line_chart(f"valid {objectives[1]} over valid {objectives[0]}", objectives[0], [], points, whole=False)


def shown(value: Any) -> str:
    """A chosen value as text."""
    return f"{value:.4g}" if isinstance(value, float) else printable(value)
