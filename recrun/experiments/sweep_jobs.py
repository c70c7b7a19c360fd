"""What a sweep is to run: the jobs of a list, or (recrun.experiments.search) the trials of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from recrun.experiments.sweep_plan import Job
from recrun.experiments.sweep_results import best_of, distinct, over_seeds

Row = dict[str, Any]


class Jobs(Protocol):
    """What is to be run."""

    @property
    def count(self) -> int:
        """How many jobs there will be."""

    @property
    def listed(self) -> Sequence[Job]:
        """Those that are known so far."""

    def next(self) -> Job | None:
        """The job to start now; None if there is none left, or none before a running one ends."""

    def ended(self, job: Job, row: Row) -> None:
        """A job has ended; `row` is its line of the table."""

    def changes(self, job: Job) -> str:
        """What tells a job from the others."""

    def conclude(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What results.json has of all jobs' lines together: `over_seeds`, what each setting gives, and `best`."""


class Listed:
    """The jobs of a plan, in order.

    Args:
        jobs: All of them, also those that are finished.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.listed, self.count = jobs, len(jobs)
        self.left: Iterator[Job] = iter(jobs)
        labels = distinct([job.overrides for job in jobs])
        self.labels = {job.number: label for job, label in zip(jobs, labels, strict=True)}

    def next(self) -> Job | None:
        """See Jobs."""
        return next(self.left, None)

    def ended(self, job: Job, row: Row) -> None:
        """See Jobs."""

    def changes(self, job: Job) -> str:
        """See Jobs."""
        return self.labels[job.number]

    def conclude(self, rows: Sequence[Row]) -> dict[str, Any]:
        """See Jobs."""
        settings = over_seeds(rows)
        return {"over_seeds": settings, "best": best_of(rows, settings)}
