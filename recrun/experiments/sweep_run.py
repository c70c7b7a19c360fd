"""The jobs of a sweep under way: started as long as there is room, and what becomes of them."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from rich.table import Table

from recrun.console import report
from recrun.console.progress_bar import line_of
from recrun.console.sweep_progress import RunningJob, sweep_progress, table
from recrun.errors import RecrunError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.launchers import InProcess, Workers
from recrun.experiments.run_record import MetricsLog
from recrun.experiments.sweep_jobs import Jobs, Row
from recrun.experiments.sweep_plan import Job
from recrun.experiments.sweep_results import found_in, stopped_in, valued
from recrun.runtime.run_files import read_json


class Sweep:
    """The jobs of a sweep under way.

    Args:
        directory: The sweep's.
        jobs: What is to be run.
        workers: What runs it.
        fail_fast: Whether the first failure stops all.
    """

    def __init__(self, directory: Path, jobs: Jobs, workers: Workers, fail_fast: bool) -> None:
        self.directory, self.jobs, self.workers, self.fail_fast = directory, jobs, workers, fail_fast
        self.rows: dict[int, Row] = {}
        self.running: dict[Path, Job] = {}
        self.began: dict[int, float] = {}  # by time.monotonic()
        self.stopping = False
        self.interrupted = False

    def run(self) -> None:
        """Starts jobs as long as there is room, and takes note of those that end."""
        with nullcontext() if isinstance(self.workers, InProcess) else sweep_progress(self.table):
            self.run_all()

    def table(self) -> Table:
        """The jobs under way, for a terminal; called from another thread."""
        running = [
            RunningJob(job.number, self.jobs.changes(job), last_row(directory), self.began[job.number])
            for directory, job in [*self.running.items()]
        ]
        failed = sum(row["status"] == "failed" for row in [*self.rows.values()])
        return table(running, len(self.rows), failed, self.jobs.count)

    def run_all(self) -> None:
        """See `run`."""
        while self.fill():
            directory, outcome = self.workers.wait()
            job = self.running.pop(directory)
            self.end(job, self.line(job, outcome, outcome.status))

    def fill(self) -> bool:
        """Starts jobs where workers are free; False if none is running then."""
        while not self.stopping and len(self.running) < self.workers.capacity and (job := self.jobs.next()):
            done = self.done_before(job)
            if done is not None:
                self.end(job, done)
                continue
            report.note(f"job {job.number} of {self.jobs.count}: {self.jobs.changes(job) or 'no overrides'}")
            self.began[job.number] = time.monotonic()
            self.running[self.directory / job.directory] = job
            self.workers.submit(self.directory / job.directory)
        return bool(self.running)

    def done_before(self, job: Job) -> Row | None:
        """The line of a job that is finished, or that cannot be run; None for one that is to be run."""
        directory = self.directory / job.directory
        if job.refused:
            return self.line(job, Outcome(error=job.refused, code=1), "failed")
        try:
            status = directories.status(directory)
            if status == "finished":
                return self.line(job, Outcome(read_json(directory / "results.json")), status)
            if status == "pruned":
                return self.line(job, Outcome(pruned=str(read_json(directory / "run.json").get("pruned"))), status)
        except (OSError, RecrunError) as error:
            return self.line(job, Outcome(error=str(error), code=1), "failed")
        return None

    def line(self, job: Job, outcome: Outcome, status: str) -> Row:
        """A job's line of the table; says what went wrong."""
        changes = self.jobs.changes(job)
        if outcome.in_use:
            status = "running"
            report.note(f"job {job.number} ({changes}) is being run by another process")
        elif status == "out of time":
            report.note(f"job {job.number} ({changes}) stopped: {outcome.error}")
        elif status == "failed":
            report.error(f"job {job.number} ({changes}) failed: {outcome.error}")
        elif outcome.results is not None:
            report.note(f"job {job.number} finished{valued(outcome.results)}")
        elif status == "pruned":
            report.note(f"job {job.number} {outcome.pruned}")
        found = stopped_in(self.directory / job.directory) if status == "pruned" else found_in(outcome.results or {})
        return {"job": job.number, "changes": changes, "status": status, **found, "overrides": list(job.overrides)}

    def end(self, job: Job, row: Row) -> None:
        """Takes note of a job that ended; a failure may stop all, an interruption does."""
        self.rows[job.number] = row
        if row["status"] == "interrupted":
            self.interrupted = self.interrupted or not self.stopping
            self.stop()
        elif row["status"] == "failed" and self.fail_fast:
            self.stop()
        else:
            self.jobs.ended(job, row)

    def stop(self) -> None:
        """Starts no further job, and asks the running ones to stop."""
        if not self.stopping:
            self.stopping = True
            self.workers.interrupt()

    def row(self, job: Job) -> Row:
        """The line of any job, also of one that was not started or that another one's failure stopped."""
        if job.number not in self.rows:
            return self.line(job, Outcome(), "not run")
        return self.rows[job.number]


def last_row(directory: Path) -> str:
    """The last evaluation of a run that another process writes, as far as it can be read."""
    try:
        row = MetricsLog(directory).rows()[-1]
        metrics = " ".join(f"{name} {value:.4f}" for name, value in [*row["metrics"].items()][:2])
        return line_of(row, f"{row['split']} {metrics}")
    except (OSError, RecrunError, LookupError, TypeError, ValueError, AttributeError):
        return ""
