"""What a person sees of a sweep whose jobs run in other processes: one live table on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from recrun.console import report


@dataclass(frozen=True)
class RunningJob:
    """A job under way.

    Attributes:
        number: Its number.
        changes: What tells it from the others.
        last: Its last evaluation, in words; empty before the first.
        since: `time.monotonic()` when it began.
    """

    number: int
    changes: str
    last: str = ""
    since: float = field(default_factory=time.monotonic)


def table(jobs: Sequence[RunningJob], ended: int, failed: int, count: int) -> Table:
    """A line for each job under way; the title counts the others.

    Args:
        jobs: Those under way.
        ended, failed: How many have ended, and how many of them failed.
        count: How many there are in all.
    """
    bad = f", {failed} failed" if failed else ""
    shown = Table("job", "changes", "last evaluation", "time", box=None, pad_edge=False, title_justify="left")
    shown.title = f"{ended} of {count} jobs ended{bad}"
    for job in jobs:
        minutes, seconds = divmod(int(time.monotonic() - job.since), 60)
        shown.add_row(
            str(job.number), report.printable(job.changes), report.printable(job.last), f"{minutes}:{seconds:02}"
        )
    return shown


@contextmanager
def sweep_progress(current: Callable[[], Table]) -> Iterator[None]:
    """The table, drawn anew each second for as long as the block lasts; nothing where stderr is no terminal.

    Args:
        current: Gives the table; called from a thread of its own.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=current, console=console, refresh_per_second=1, transient=True):
        yield
