"""Tables of results. What does not fit side by side goes below; no number is ever cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recrun.console import report

MOST_METRICS = 5  # columns of a table besides what decided, or one for each task; results.json has them all
WORDS_WIDTH = 32  # of a column of words, which are folded
BETWEEN = 3  # columns
WIDE = 200  # where nobody says how wide the reader's window is


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, of one or two lines, its cells, and whether they are words."""

    head: str
    cells: Sequence[str]
    words: bool = False

    @property
    def width(self) -> int:
        """What it takes: numbers all they need, words at most WORDS_WIDTH."""
        longest = max(map(len, [*self.head.split("\n"), *self.cells]))
        return min(longest, WORDS_WIDTH) if self.words else longest


def results_table(results: Mapping[str, Any], directory: Path) -> None:
    """The stages of a run, one line each, validation first, and where everything is.

    Args:
        results: As in results.json.
        directory: The run directory.
    """
    stages = [*results["stages"].values()]
    columns = [
        Column("stage", [*results["stages"]], words=True),
        Column("best\nepoch", [str(stage["best_epoch"]) for stage in stages]),
        *metric_columns(stages),
        Column("train s", [f"{stage['train_seconds']:,.1f}" for stage in stages]),
        Column(f"{results['unit']}/s", [f"{stage['samples_per_second']:,.1f}" for stage in stages]),
    ]
    show(columns, caption(results["stages"]))
    report.text(f"peak memory {results['peak_memory_mb']:,.0f} MB; everything is in {directory}")


def sweep_table(
    rows: Sequence[Mapping[str, Any]],
    settings: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None = None,
    front: Sequence[Mapping[str, Any]] = (),
) -> None:
    """The jobs of a sweep, one line each, what each setting gives over its seeds, and what validation chooses.

    Args:
        rows: Of each job its `job` (number), `changes` (overrides that differ from the others'), `status`, `monitor`,
            `valid` and `test`, which are empty unless it finished.
        settings: As in a sweep's results.json: `changes`, `jobs`, `monitor`, and `mean` and `sd` of each split.
        best: As there.
        front: As there: the trials of a search that no other is better than.
    """
    columns = [
        Column("job", [str(row["job"]) for row in rows], words=True),
        Column("changes", [row["changes"] or "-" for row in rows], words=True),
        Column("status", [row["status"] for row in rows], words=True),
        *metric_columns(rows),
    ]
    show(columns, caption({row["changes"]: row for row in rows if row["status"] == "finished"}))
    if settings:
        show(
            [
                Column("changes", [setting["changes"] or "-" for setting in settings], words=True),
                Column("seeds", [str(len(setting["jobs"])) for setting in settings]),
                *metric_columns(settings),
                *interval_columns(settings),
            ],
            "Mean and standard deviation over seeds, and 95 % interval of the mean (Student's t).",
        )
    if front:
        show(front_columns(front), "Pareto front by validation: no trial is better than these in all objectives.")
    if best is not None:
        chosen = f"{best['changes'] or '-'} (job {', '.join(map(str, best['jobs']))})"
        values = ", ".join(f"{split} {best[split]:.4f}" for split in ("valid", "test") if split in best)
        report.text(f"best by validation {best['monitor']}: {chosen}: {values}")


def front_columns(front: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The trials of a Pareto front with their objectives."""
    values = [
        Column(f"{split}\n{name}", [cell(one[split], name) for one in front])
        for split in ("valid", "test")
        for name in front[0][split]
    ]
    return [
        Column("job", [", ".join(map(str, one["jobs"])) for one in front], words=True),
        Column("changes", [one["changes"] for one in front], words=True),
        *values,
    ]


def interval_columns(settings: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The 95 % intervals of what decided, on validation and on test."""
    monitors = {setting["monitor"] for setting in settings}
    name = monitors.pop() if len(monitors) == 1 else None
    intervals = {split: [setting[split].get("interval", {}) for setting in settings] for split in ("valid", "test")}
    shown = [split for split in intervals if all(name in found for found in intervals[split])]
    return [
        Column(
            f"95 % interval,\n{split} {name}", ["{:.4f} to {:.4f}".format(*found[name]) for found in intervals[split]]
        )
        for split in shown
    ]


def plan_table(jobs: Sequence[tuple[str, str]]) -> None:
    """The jobs that a sweep would run: overrides and directory of each."""
    columns = [
        Column("job", [str(number) for number in range(len(jobs))], words=True),
        Column("overrides", [overrides or "-" for overrides, _ in jobs], words=True),
        Column("directory", [directory for _, directory in jobs]),
    ]
    show(columns)


def metric_columns(found: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Columns of what decided on validation, then of the test metrics; of all validation metrics without a test split.

    Args:
        found: For each line of the table its `monitor`, `valid` and `test`; each metrics, or their `mean` and `sd`.
    """
    names = {split: dict.fromkeys(name for one in found for name in means(one[split])) for split in ("valid", "test")}
    deciding = list(dict.fromkeys(one["monitor"] for one in found if one["monitor"] in names["valid"]))
    shown = {"valid": deciding, "test": room_for(names["test"], [name for name in deciding if name in names["test"]])}
    if not names["test"]:
        shown["valid"] = room_for(names["valid"], deciding)
    return [
        Column(f"{split}\n{name}", [cell(one[split], name) for one in found])
        for split in shown
        for name in shown[split]
    ]


def means(metrics: Mapping[str, Any]) -> Mapping[str, float]:
    """Metrics, or their means over seeds."""
    found: Mapping[str, float] = metrics["mean"] if isinstance(metrics.get("mean"), Mapping) else metrics
    return found


def cell(metrics: Mapping[str, Any], name: str) -> str:
    """A metric's value, with its deviation over seeds if there is one."""
    values = means(metrics)
    if name not in values:
        return "-"
    return f"{values[name]:.4f}" if values is metrics else f"{values[name]:.4f} ± {metrics['sd'][name]:.4f}"


def caption(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Which split the metrics are of, and which metric selected the epoch, that of each line where they differ."""
    what = "Test" if any(one["test"] for one in found.values()) else "Validation"
    deciding = {name: one["monitor"] for name, one in found.items() if one["valid"]}
    if not deciding:
        return f"{what} metrics." if found else ""
    if len(set(deciding.values())) == 1:
        return f"{what} metrics. Best epoch selected by validation {next(iter(deciding.values()))}."
    each = ", ".join(f"{monitor} in {name or '-'}" for name, monitor in deciding.items())
    return f"{what} metrics. Best epoch selected by validation {each}."


def room_for(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """The metrics for which a table has room: `first`, then one of each other task, then a second of each task …"""
    turns: dict[str, int] = {}
    turn = {}
    for name in dict.fromkeys([*first, *names]):
        task = name.rpartition("/")[0]
        turn[name] = turns[task] = turns.get(task, 0) + 1
    others = sorted((name for name in turn if name not in first), key=turn.__getitem__)
    return [*first, *others[: max(MOST_METRICS, len(turns))]]


def show(columns: Sequence[Column], caption: str = "") -> None:
    """Prints a table, in several blocks where it is too wide, each with the first column."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    room = console.width if console.is_terminal or "COLUMNS" in os.environ else WIDE
    for part in blocks(columns, room):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in part:
            side: Literal["left", "right"] = "left" if column.words else "right"
            table.add_column(column.head, justify=side, width=column.width, overflow="fold", no_wrap=not column.words)
        for cells in zip(*(column.cells for column in part), strict=True):
            table.add_row(*map(report.printable, cells))
        Console(width=max(room, width_of(part))).print(table, markup=False)
    if caption:
        report.text(caption)


def blocks(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in groups that are each at most `room` wide, if one beside the first can be."""
    first, *others = columns
    parts = [[first]]
    for column in others:
        if len(parts[-1]) > 1 and width_of([*parts[-1], column]) > room:
            parts.append([first])
        parts[-1].append(column)
    return parts


def width_of(columns: Sequence[Column]) -> int:
    """How wide a table of some columns is, with its edges."""
    return sum(column.width for column in columns) + BETWEEN * (len(columns) - 1) + 2
