"""What is shown and written when the jobs of a sweep have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.config.stored import raw
from recrun.console import report, tables
from recrun.experiments import directories
from recrun.experiments.best_experiment import FOLDER
from recrun.experiments.run_record import write_text
from recrun.experiments.sweep_jobs import Jobs, Row
from recrun.experiments.sweep_results import as_csv

RESULTS, TABLE = "results.json", "results.csv"


def conclude(directory: Path, jobs: Jobs, rows: Sequence[Row]) -> int:
    """The table of all jobs, also as files, and what to do about those that did not finish."""
    found = jobs.conclude(rows)
    text = json.dumps({"jobs": rows, **found}, indent=2) + "\n"
    write_text(directory / RESULTS, text)
    write_text(directory / TABLE, as_csv(rows, found["over_seeds"]))
    tables.sweep_table(rows, found["over_seeds"], found["best"], found.get("front", ()))
    for experiment in sorted((directory / FOLDER).glob("*.yaml")):
        report.text(f"run it: recrun --config-dir {directory} experiment={experiment.stem}")
    if any(raw(directory / job.directory).get("report") for job in jobs.listed if (directory / job.directory).is_dir()):
        directories.report_on(directory)
    return complain(directory, rows)


def complain(directory: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Says which jobs did not finish and what to do about them; returns the exit code of the sweep."""
    of: dict[str, list[str]] = {}
    for row in rows:
        of.setdefault(row["status"], []).append(str(row["job"]))
    failed, running, late = of.get("failed", []), of.get("running", []), of.get("out of time", [])
    left = [*of.get("interrupted", []), *of.get("not run", [])]
    if failed:
        report.error(
            f"{len(failed)} of {len(rows)} jobs failed: {', '.join(failed)}\ntry them again: recrun resume {directory}"
        )
    if left:
        report.error(
            f"stopped by the failure, because of --fail-fast; not finished: jobs {', '.join(left)}\n"
            f"go on with: recrun resume {directory}"
        )
    if running:
        report.error(
            f"not finished: jobs {', '.join(running)}, which another process runs\n"
            f"when it has ended: recrun resume {directory}"
        )
    if late:
        numbers = ", ".join(late)
        report.error(f"not finished within their time_limit: jobs {numbers}\ngo on with: recrun resume {directory}")
    if failed or left or running:
        return 1
    if late:
        return directories.INTERRUPTED
    report.text(str(directory))
    return 0
