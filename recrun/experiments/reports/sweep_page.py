"""The page of a sweep: its settings over seeds, and its jobs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from recrun.errors import RecrunError
from recrun.experiments.compare.compare import chosen_metrics
from recrun.experiments.compare.runs import (
    Setting,
    find_runs,
    gather_settings,
    jobs_of,
    mapping,
    printable,
    refuse_other_evaluations,
)
from recrun.experiments.reports.charts import Chart, Estimate, Points, interval_chart, line_chart
from recrun.experiments.reports.estimates import values_of
from recrun.experiments.reports.page import Page, Section, Table
from recrun.experiments.reports.run_page import (
    SPLITS,
    Stored,
    as_number,
    by_stage,
    estimate,
    monitor_of,
    number,
    read,
)
from recrun.experiments.reports.search_section import search_sections
from recrun.experiments.sweep_results import distinct
from recrun.runtime.run_files import inside, read_json, refuse_links
from recrun.types import Split

MOST_METRICS = 4  # of the table of settings
MOST_CURVES = 8  # of the jobs that validation likes best: more cannot be told apart


@dataclass(frozen=True)
class Job:
    """A job: its run, and how it differs from the others."""

    name: str
    run: Stored

    def value(self, split: Split) -> float:
        """The metric that decided, on a split."""
        return as_number(mapping(self.run.results.get(split)).get(str(self.run.results.get("monitor"))))


def sweep_page(directory: Path) -> Page:
    """The page of a sweep's directory. Raises RecrunError if a file is damaged."""
    refuse_links(directory)
    runs = [read(path) for path, _ in jobs_of(directory) if path.is_dir()]  # a refused trial has none
    changes = distinct([list(run.words) for run in runs])
    jobs = [Job(change or run.model, run) for change, run in zip(changes, runs, strict=True)]
    best_of_all = f"The {MOST_CURVES} jobs with the best validation." if len(jobs) > MOST_CURVES else ""
    finished = sum(run.status == "finished" for run in runs)
    return Page(
        f"sweep: {printable(directory.name)}",
        f"{len(jobs)} jobs, {finished} finished",
        [
            *search_sections(directory),
            *(settings_section(directory) if finished else []),
            Section("Learning curves", best_of_all, charts=curves(jobs)),
            Section("Jobs", table=jobs_table(jobs)),
            Section("To repeat it", text=command(directory)),
        ],
    )


def settings_section(directory: Path) -> list[Section]:
    """Settings over seeds: a chart of the metric that decided and a table of it and some others."""
    runs, _ = find_runs([directory])
    settings = gather_settings(runs)
    try:
        refuse_other_evaluations(runs)
        split: Split = "test" if all(mapping(run.results.get("test")) for run in runs) else "valid"
        names = with_monitor(chosen_metrics(runs, [], split), str(runs[0].results.get("monitor")))
        values = list(values_of(settings, split, names))
    except RecrunError as error:
        return [Section("Settings", f"No table of means: {error}", table=plain_table(settings))]
    rows = [
        (
            setting.name,
            str(len(setting.runs)),
            *(estimate(found[name].mean, found[name], sd(setting, split, name)) for name in names),
        )
        for setting, found in zip(settings, values, strict=True)
    ]
    shown = names[0]
    estimates = [
        Estimate(setting.name, found[shown].mean, found[shown].interval.low, found[shown].interval.high)
        for setting, found in zip(settings, values, strict=True)
    ]
    units = " and ".join(dict.fromkeys(f"{one.units:,} {one.unit}" for one in values[0].values()))
    header = ("setting", "seeds", *(f"{split} {name}" for name in names))
    note = (
        f"Means over {units} of {split}, ± standard deviation over seeds, with 95% intervals "
        "(bootstrap over these and over seeds)."
    )
    chart = interval_chart(f"{split} {shown}, with 95% intervals", shown, estimates)
    return [Section("Settings", note, (chart,) if chart else (), Table(header, tuple(rows)))]


def with_monitor(names: Sequence[str], monitor: str) -> list[str]:
    """The metric that decided, and some others: as many as a page is wide."""
    return sorted(names, key=lambda name: name != monitor)[:MOST_METRICS]


def plain_table(settings: Sequence[Setting]) -> Table:
    """Settings and their number of seeds alone."""
    return Table(("setting", "seeds"), tuple((setting.name, str(len(setting.runs))) for setting in settings))


def sd(setting: Setting, split: Split, name: str) -> float | None:
    """The standard deviation of a metric over seeds."""
    found = [as_number(mapping(run.results.get(split)).get(name)) for run in setting.runs]
    return stdev(found) if len(found) > 1 else None


def curves(jobs: Sequence[Job]) -> tuple[Chart, ...]:
    """Of each stage the jobs' metric that decided, over steps."""
    ordered = sorted(jobs, key=lambda job: rank_of(job))[:MOST_CURVES]
    stages: dict[str, list[Points]] = {}
    titles: dict[str, str] = {}
    for job in ordered:
        for stage, rows in by_stage(job.run).items():
            monitor = monitor_of(job.run, stage, rows)
            titles.setdefault(stage, f"{stage}: valid {monitor}")
            values = [as_number(mapping(row.get("metrics")).get(monitor)) for row in rows]
            stages.setdefault(stage, []).append(Points(job.name, [as_number(row.get("epoch")) for row in rows], values))
    charts = [line_chart(titles[stage], "epoch", points) for stage, points in stages.items()]
    return tuple(chart for chart in charts if chart is not None)


def rank_of(job: Job) -> float:
    """Small for a job that validation likes; jobs without a value last."""
    value = job.value("valid")
    if value != value:
        return float("inf")
    return -value if job.run.results.get("greater_is_better", True) else value


def jobs_table(jobs: Sequence[Job]) -> Table:
    """A row per job."""
    monitors = sorted({str(job.run.results["monitor"]) for job in jobs if "monitor" in job.run.results})
    named = monitors[0] if len(monitors) == 1 else "metric that decided"
    header = ("job", "status", *(f"{split} {named}" for split in SPLITS), "training s")
    rows = []
    for at, job in enumerate(jobs):
        seconds = [as_number(mapping(stage).get("train_seconds")) for stage in job.run.stages.values()]
        spent = f"{fmean(seconds) * len(seconds):,.1f}" if seconds else number(None)
        values = [value_text(job.value(split)) for split in SPLITS]
        rows.append((f"{at}: {job.name}", job.run.status, *values, spent))
    return Table(header, tuple(rows))


def value_text(value: float) -> str:
    """A metric that may be absent."""
    return number(None if value != value else value)


def command(directory: Path) -> str:
    """What starts such a sweep again."""
    words: Any = read_json(inside(directory, "sweep.json")).get("argv")
    return shlex.join(["recrun", *map(printable, words[1:])]) if isinstance(words, list) else ""
