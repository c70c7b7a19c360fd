"""The only place that prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_METRICS = 5  # columns of a table; results.json has them all
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
        results: As in results.json; the monitored metric comes first, for validation and test.
        directory: The run directory.
    """
    monitor = results["monitor"]
    others = [name for name in results["test"] or results["valid"] if name != monitor][:MOST_METRICS]
    columns = ["stage", "best epoch", f"valid {monitor}", monitor, *others, "train s", f"{results['unit']}/s"]
    rows = []
    for name, stage in results["stages"].items():
        metrics = [stage["valid"].get(monitor), stage["test"].get(monitor), *map(stage["test"].get, others)]
        cells = ["-" if value is None else f"{value:.4f}" for value in metrics]
        rows.append([name, str(stage["best_epoch"]), *cells, *(f"{stage[key]:,.1f}" for key in SPEED)])
    print_table(columns, rows, f"metrics of the test part, unless it says valid; {monitor} on valid decided")
    print(f"peak memory {results['peak_memory_mb']:,.0f} MB; everything is in {directory}", flush=True)


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


def sweep_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The jobs of a sweep, one line each.

    Args:
        rows: Of each job its `job` (number), `changes` (overrides that tell it from the others), `status`,
            `results` (as in results.json, None unless finished), `error` and `directory`.
    """
    found = [_metrics(row) for row in rows]
    metrics = list(dict.fromkeys(name for values in found for name in values))[:MOST_METRICS]
    cells = [[f"{values[name]:.4f}" if name in values else "" for name in metrics] for values in found]
    start = [[str(row["job"]), row["changes"] or "-", row["status"]] for row in rows]
    print_table(["job", "changes", "status", *metrics], [a + b for a, b in zip(start, cells, strict=True)], words=3)


def evaluation(results: Mapping[str, Any]) -> None:
    """What `recrun evaluate` found: a line per metric, a column per part."""
    parts = [part for part in ("valid", "test") if results.get(part)]
    names = list(dict.fromkeys(name for part in parts for name in results[part]))
    rows = [(name, "  ".join(f"{results[part].get(name, float('nan')):>8.4f}" for part in parts)) for name in names]
    listing(f"stage {results['stage']}, epoch {results['epoch']}: {', '.join(parts)}", rows)


def _metrics(row: Mapping[str, Any]) -> Mapping[str, float]:
    """The metrics that a job's line shows, the monitored first: of the test part, or of validation without one."""
    results = row.get("results") or {}
    found: dict[str, float] = dict(results.get("test") or results.get("valid") or {})
    first = results.get("monitor")
    return {first: found[first], **found} if first in found else found
