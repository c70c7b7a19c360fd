"""The page of a comparison: settings with their intervals, differences with their tests, and what they show."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from recrun.experiments.compare import tables
from recrun.experiments.compare.command import Options, compared
from recrun.experiments.compare.result import ComparisonResult, Summary
from recrun.experiments.compare.runs import StoredRun, evaluated_on, gather_settings, printable
from recrun.experiments.reports.charts import Chart, Estimate, interval_chart
from recrun.experiments.reports.page import Page, Section, Table
from recrun.experiments.reports.run_page import NO_BREAK


def comparison_page(options: Options, words: Sequence[str]) -> Page:
    """The page of what `recrun compare` finds.

    Args:
        options: What is compared, and how.
        words: What was typed, after `recrun report`.

    Raises:
        ConfigError: The runs cannot be compared.
        DataError: A file of a run is damaged.
    """
    found, runs = compared(options)
    against = f"against {found.baseline}" if found.baseline is not None else "each with every other"
    return Page(
        f"comparison of {len(found.settings)} settings",
        f"{len(runs)} runs, {against}; {found.split} split",
        [
            Section("Settings", tables.explanation(found), tuple(settings_charts(found)), settings_table(found)),
            Section("What is shown", lines=shown(found)),
            Section("Differences", differences_note(found), tuple(difference_charts(found)), differences_table(found)),
            Section("Runs", table=runs_table(runs)),
            Section("Evaluated alike", facts=alike(runs[0])),
            Section("To repeat it", text=shlex.join(["recrun", "report", *words])),
        ],
    )


def settings_charts(found: ComparisonResult) -> Iterator[Chart]:
    """Of each metric the settings' means with intervals."""
    for metric in found.metrics:
        summaries = [found.summary(setting, metric) for setting in found.settings]
        estimates = [Estimate(one.setting, one.mean, one.interval.low, one.interval.high) for one in summaries]
        yield from charts_of(f"{found.split} {metric}, with 95% intervals", metric, estimates)


def difference_charts(found: ComparisonResult) -> Iterator[Chart]:
    """Of each metric the differences with intervals."""
    for metric in found.metrics:
        estimates = [
            Estimate(named(one.setting, one.baseline, found), one.difference, one.interval.low, one.interval.high)
            for one in found.comparisons
            if one.metric == metric
        ]
        yield from charts_of(f"difference in {metric}, with 95% intervals", metric, estimates, "+.4f")


def named(setting: str, baseline: str, found: ComparisonResult) -> str:
    """What is compared; with a baseline that all share its name is above."""
    return setting if found.baseline is not None else f"{setting} - {baseline}"


def charts_of(title: str, metric: str, estimates: Sequence[Estimate], form: str = ".4f") -> Iterator[Chart]:
    """A chart, where there is anything to show."""
    chart = interval_chart(title, metric, estimates, form)
    if chart is not None:
        yield chart


def settings_table(found: ComparisonResult) -> Table:
    """A row per setting: seeds, and of each metric mean, deviation over seeds, marks and interval."""
    rows = []
    for setting in found.settings:
        summaries = [found.summary(setting, metric) for metric in found.metrics]
        rows.append(
            (tables.setting_name(found, setting), str(summaries[0].seeds), *(cell(found, one) for one in summaries))
        )
    return Table(("setting", "seeds", *(f"{found.split} {metric}" for metric in found.metrics)), tuple(rows))


def cell(found: ComparisonResult, summary: Summary) -> str:
    """A mean with marks and interval."""
    low, high = (f"{end:.{tables.DIGITS}f}" for end in (summary.interval.low, summary.interval.high))
    marks = tables.marks(found, summary)
    return f"{tables.value(summary)}{f'{NO_BREAK}{marks}' if marks else ''} [{low},{NO_BREAK}{high}]"


def differences_table(found: ComparisonResult) -> Table | None:
    """A row per comparison, as on the terminal."""
    if not found.comparisons:
        return None
    columns = tables.comparison_columns(found)
    rows = tuple(zip(*(column.cells for column in columns), strict=True))
    return Table(tuple(column.head.replace("\n", " ") for column in columns), rows)


def differences_note(found: ComparisonResult) -> str:
    """What the columns of the differences are."""
    return tables.columns_explained(found) if found.comparisons else ""


def shown(found: ComparisonResult) -> tuple[str, ...]:
    """In words what each comparison shows, and what it does not."""
    if not found.comparisons:
        return ()
    return (*(tables.sentence(one, found) for one in found.comparisons), *tables.notes(found))


def alike(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """What is equal in all runs, else they would not be compared."""
    return tuple((key.replace("_", " "), printable(value)) for key, value in evaluated_on(run).items())


def runs_table(runs: Sequence[StoredRun]) -> Table:
    """The setting, seed and directory of each run."""
    rows = [
        (setting.name, printable(run.config.get("seed")), printable(run.directory))
        for setting in gather_settings(runs)
        for run in setting.runs
    ]
    return Table(("setting", "seed", "directory"), tuple(rows))
