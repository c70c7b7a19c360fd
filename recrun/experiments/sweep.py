"""Multirun: every job composed and checked before the first one starts, then one after another in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recrun.config.compose import OPTION, Composition, composer
from recrun.config.hints import override_notes
from recrun.config.validate import check
from recrun.console import report, tables
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories, preflight
from recrun.experiments.run_record import write_text
from recrun.experiments.sweep_results import best_of, distinct, found_in, over_seeds
from recrun.runtime.process import exclusive
from recrun.runtime.run_files import read_json, refuse_links

PLAN, RESULTS = "sweep.json", "results.json"


def start(overrides: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """Plans a sweep in a directory of its own and carries it out.

    Args:
        overrides: Hydra's grammar: `seed=0,1`, `seed=range(0,5)`, `model=choice(a,b)`, `stage=glob(f*)`.
        folders: The conf folders, those that win first.

    Returns:
        The exit code.
    """
    composed = compose_all(overrides, folders)
    for note in dict.fromkeys(note for job in composed for note in override_notes(job)):
        report.note(note)
    return carry_out(plan(composed))


def compose_all(overrides: Sequence[str], folders: Sequence[Path]) -> list[Composition]:
    """The checked configs of all jobs; the error of a bad one says which it is."""
    composed: dict[str, Composition] = {}
    with composer(folders) as compose:
        for number, words in enumerate(compose.jobs(overrides)):
            try:
                job = compose(words)
                check(job)
                preflight.check(job.config)
            except ConfigError as error:
                raise ConfigError(f"{error}\nin job {number}: {' '.join(words)}") from None
            same = composed.setdefault(json.dumps(job.config, sort_keys=True, default=str), job)
            if same is not job:
                report.note(f"left out: {' '.join(words)} is the same job as {' '.join(same.overrides)}")
    if len({job.config["output_dir"] for job in composed.values()}) > 1:
        raise ConfigError("output_dir must be the same for all jobs of a sweep")
    return [*composed.values()]


def plan(composed: Sequence[Composition]) -> Path:
    """Makes the sweep's directory: sweep.json and one prepared run directory per job."""
    directory = directories.new_directory(Path(composed[0].config["output_dir"]) / "multirun")
    listed = []
    for number, job in enumerate(composed):
        directories.prepare(job, directory / str(number))
        listed.append({"number": number, "overrides": job.overrides, "directory": str(number)})
    text = json.dumps({"argv": sys.argv, "jobs": listed}, indent=2) + "\n"
    (directory / PLAN).write_text(text, encoding="utf-8")
    return directory


def carry_out(directory: Path) -> int:
    """Runs the jobs of a sweep that are not finished, in order, and shows what came of all.

    Returns:
        0, 1 if a job did not finish, 130 if it was interrupted.

    Raises:
        InUse: Another process carries out the sweep.
    """
    refuse_links(directory)
    with exclusive(directory):
        listed = jobs_of(directory / PLAN)
        changes = distinct([job["overrides"] for job in listed])
        rows: list[dict[str, Any]] = []
        for job, change in zip(listed, changes, strict=True):
            row = carry_out_job(directory / job["directory"], job["number"], change, len(listed))
            if row["status"] == "interrupted":
                report.note(f"interrupted; go on with: recrun resume {directory}")
                return directories.INTERRUPTED
            rows.append({**row, "overrides": job["overrides"]})
        return conclude(directory, rows)


def jobs_of(plan: Path) -> list[dict[str, Any]]:
    """The jobs that a sweep's sweep.json lists: number, overrides, and the name of a directory beside it."""
    listed = read_json(plan).get("jobs")
    if not isinstance(listed, list) or not listed or not all(isinstance(job, dict) for job in listed):
        raise RecrunError(f"{plan} is damaged: it lists no jobs")
    for job in listed:
        words, name = job.get("overrides"), job.get("directory")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RecrunError(f"{plan} is damaged: a job's overrides are no list of words")
        if not isinstance(name, str) or not OPTION.fullmatch(name) or not isinstance(job.get("number"), int):
            raise RecrunError(f"{plan} is damaged: a job's directory is {str(name)[:100]!r}")
    return listed


def carry_out_job(directory: Path, number: int, change: str, count: int) -> dict[str, Any]:
    """One job, unless it is finished; its line of the table. A process that resumes it by itself goes on."""
    row = {"job": number, "changes": change}
    try:
        if directories.status(directory) == "finished":
            return {**row, "status": "finished", **found_in(read_json(directory / "results.json"))}
    except (OSError, RecrunError) as error:
        report.error(f"job {number} ({change}) failed: {error}")
        return {**row, "status": "failed", **found_in({})}
    report.note(f"job {number} of {count}: {change or 'no overrides'}")
    outcome = directories.attempt(directory)
    status = {0: "finished", directories.INTERRUPTED: "interrupted"}.get(outcome.code, "failed")
    if outcome.in_use:
        status = "running"
        report.note(f"job {number} ({change}) is being run by another process")
    elif status == "failed":
        report.error(f"job {number} ({change}) failed: {outcome.error}")
    return {**row, "status": status, **found_in(outcome.results or {})}


def conclude(directory: Path, rows: Sequence[dict[str, Any]]) -> int:
    """The table of all jobs, also as a file, and what to do about those that did not finish."""
    settings = over_seeds(rows)
    best = best_of(rows, settings)
    text = json.dumps({"jobs": rows, "over_seeds": settings, "best": best}, indent=2) + "\n"
    write_text(directory / RESULTS, text)
    tables.sweep_table(rows, settings, best)
    missing = {status: [str(row["job"]) for row in rows if row["status"] == status] for status in ("failed", "running")}
    if missing["failed"]:
        failed = missing["failed"]
        report.error(
            f"{len(failed)} of {len(rows)} jobs failed: {', '.join(failed)}\ntry them again: recrun resume {directory}"
        )
    if missing["running"]:
        report.error(
            f"not finished: jobs {', '.join(missing['running'])}, which another process runs\n"
            f"when it has ended: recrun resume {directory}"
        )
    if not any(missing.values()):
        report.text(str(directory))
    return 1 if any(missing.values()) else 0
