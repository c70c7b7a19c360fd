"""The only place that prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_METRICS = 5  # columns of a table besides what decided, or one for each task; results.json has them all
SPEED = ("train_seconds", "samples_per_second")


def error(message: str) -> None:
    """One or two lines for the person, on stderr."""
    mark = "\033[1;31merror:\033[0m" if sys.stderr.isatty() else "error:"
    print(f"{mark} {message}".replace("\n", "\n       "), file=sys.stderr, flush=True)


def note(message: str) -> None:
    """A line that is no result, on stderr."""
    print(message, file=sys.stderr, flush=True)


def text(message: str) -> None:
    """Plain text on stdout."""
    print(message, flush=True)


def listing(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, in two columns; the lines of a description stay under each other."""
    width = max((len(name) for name, _ in rows), default=0)
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    lines = [f"{bold}{title}{plain}"]
    for name, told in rows:
        first, *more = told.splitlines() or [""]
        lines += [f"  {name:<{width}}  {first}".rstrip(), *(f"  {'':<{width}}  {line}" for line in more)]
    print("\n".join(lines if rows else [*lines, "  none"]), flush=True)


def results_table(results: Mapping[str, Any], directory: Path) -> None:
    """The stages of a run, one line each, and where everything is.

    Args:
        results: As in results.json; what decided comes first, for validation and test.
        directory: The run directory.
    """
    stages = results["stages"]
    deciding = list(dict.fromkeys(stage["monitor"] for stage in stages.values()))
    metrics = room_for(results["test"] or results["valid"], deciding)
    on_valid = [f"valid {name}" for name in deciding]
    columns = ["stage", "best epoch", *on_valid, *metrics, "train s", f"{results['unit']}/s"]
    rows = []
    for name, stage in stages.items():
        values = [*map(stage["valid"].get, deciding), *map(stage["test"].get, metrics)]
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        rows.append([name, str(stage["best_epoch"]), *cells, *(f"{stage[key]:,.1f}" for key in SPEED)])
    print_table(columns, rows, f"metrics of the test part, unless it says valid{what_decided(stages)}")
    print(f"peak memory {results['peak_memory_mb']:,.0f} MB; everything is in {directory}", flush=True)


def what_decided(stages: Mapping[str, Any]) -> str:
    """The end of a table's caption: the monitored metric, or that of each stage; nothing without a validation part."""
    validated = {name: stage["monitor"] for name, stage in stages.items() if stage["valid"]}
    if len(set(validated.values())) <= 1:
        return "".join(f"; {monitor} on valid decided" for monitor in set(validated.values()))
    return "; on valid decided " + ", ".join(f"{monitor} in {name}" for name, monitor in validated.items())


def room_for(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """The metrics for which a table has room: `first`, then one of each other task, then a second of each task …"""
    turns: dict[str, int] = {}
    turn = {}
    for name in dict.fromkeys([*first, *names]):
        task = name.rpartition("/")[0]
        turn[name] = turns[task] = turns.get(task, 0) + 1
    others = sorted((name for name in turn if name not in first), key=turn.__getitem__)
    return [*first, *others[: max(MOST_METRICS, len(turns))]]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", words: int = 1) -> None:
    """A plain table: the first columns hold words, the others numbers; as wide as it needs off a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption or None, caption_justify="left")
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at >= words else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def sweep_table(rows: Sequence[Mapping[str, Any]], settings: Sequence[Mapping[str, Any]]) -> None:
    """The jobs of a sweep, one line each, and what each setting gives over its seeds.

    Args:
        rows: Of each job its `job` (number), `changes` (overrides that tell it from the others), `status`, `monitor`
            and `metrics`, empty unless it finished.
        settings: As in a sweep's results.json: `changes`, `jobs`, `mean` and `sd`.
    """
    deciding = dict.fromkeys(row["monitor"] for row in rows if row["monitor"] in row["metrics"])
    metrics = room_for([name for row in rows for name in row["metrics"]], list(deciding))
    lines = []
    for row in rows:
        cells = [f"{row['metrics'][name]:.4f}" if name in row["metrics"] else "" for name in metrics]
        lines.append([str(row["job"]), row["changes"] or "-", row["status"], *cells])
    print_table(["job", "changes", "status", *metrics], lines, words=3)
    lines = []
    for setting in settings:
        mean, sd = setting["mean"], setting["sd"]
        cells = [f"{mean[name]:.4f} ± {sd[name]:.4f}" if name in mean else "" for name in metrics]
        lines.append([setting["changes"] or "-", str(len(setting["jobs"])), *cells])
    if lines:
        print_table(["changes", "seeds", *metrics], lines, "mean and standard deviation over seeds")


def evaluation(results: Mapping[str, Any]) -> None:
    """What `recrun evaluate` found: a line per metric, a column per part."""
    parts = [part for part in ("valid", "test") if results.get(part)]
    names = list(dict.fromkeys(name for part in parts for name in results[part]))
    rows = [(name, "  ".join(f"{results[part].get(name, float('nan')):>8.4f}" for part in parts)) for name in names]
    listing(f"stage {results['stage']}, epoch {results['epoch']}: {', '.join(parts)}", rows)
