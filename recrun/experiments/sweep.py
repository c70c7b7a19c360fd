"""Multirun: every job composed and checked before the first one starts, then one after another in this process."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from recrun.config.compose import Composition, composer, key_of
from recrun.config.hints import remarks
from recrun.config.validate import check
from recrun.console import report
from recrun.errors import ConfigError
from recrun.experiments import directories

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
    for note in dict.fromkeys(note for job in composed for note in remarks(job)):
        report.note(note)
    return carry_out(plan(composed))


def compose_all(overrides: Sequence[str], folders: Sequence[Path]) -> list[Composition]:
    """The checked configs of all jobs; the error of a bad one says which it is."""
    composed = []
    with composer(folders) as compose:
        for number, words in enumerate(compose.jobs(overrides)):
            try:
                job = compose(words)
                check(job)
            except ConfigError as error:
                raise ConfigError(f"{error}\nin job {number}: {' '.join(words)}") from None
            composed.append(job)
    if len({job.config["output_dir"] for job in composed}) > 1:
        raise ConfigError("output_dir must be the same for all jobs of a sweep")
    return composed


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
        0, 1 if a job failed, 130 if it was interrupted.
    """
    listed = json.loads((directory / PLAN).read_text(encoding="utf-8"))["jobs"]
    changes = distinct([job["overrides"] for job in listed])
    rows: list[dict[str, Any]] = []
    for job, change in zip(listed, changes, strict=True):
        place = directory / job["directory"]
        row = {"job": job["number"], "changes": change, "overrides": job["overrides"]}
        if directories.status(place) == "finished":
            results = json.loads((place / "results.json").read_text(encoding="utf-8"))
            rows.append({**row, "status": "finished", **found_in(results)})
            continue
        report.note(f"job {job['number']} of {len(listed)}: {change or 'no overrides'}")
        outcome = directories.attempt(place)
        if outcome.code == directories.INTERRUPTED:
            report.note(f"interrupted; go on with: recrun resume {directory}")
            return directories.INTERRUPTED
        if outcome.code:
            report.error(f"job {job['number']} ({change}) failed: {outcome.error}")
        ended = "failed" if outcome.code else "finished"
        rows.append({**row, "status": ended, **found_in(outcome.results or {})})
    return conclude(directory, rows)


def conclude(directory: Path, rows: Sequence[dict[str, Any]]) -> int:
    """The table of all jobs, also as a file, and what to do about those that failed."""
    settings = over_seeds(rows)
    text = json.dumps({"jobs": rows, "over_seeds": settings}, indent=2) + "\n"
    (directory / RESULTS).write_text(text, encoding="utf-8")
    report.sweep_table(rows, settings)
    failed = [str(row["job"]) for row in rows if row["status"] == "failed"]
    if failed:
        report.error(
            f"{len(failed)} of {len(rows)} jobs failed: {', '.join(failed)}\ntry them again: recrun resume {directory}"
        )
    else:
        report.text(str(directory))
    return 1 if failed else 0


def found_in(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of a job shows: its metrics of the test part, or of validation without one, and which decided."""
    return {"monitor": results.get("monitor"), "metrics": results.get("test") or results.get("valid") or {}}


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of finished jobs that differ by `seed` alone, each metric's mean and its standard deviation (n - 1)."""
    changes = distinct([[word for word in row["overrides"] if key_of(word) != "seed"] for row in rows])
    settings: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for change, row in zip(changes, rows, strict=True):
        if row["status"] == "finished":
            settings[change].append(row)
    found = []
    for change, same in settings.items():
        if len(same) == 1:
            continue
        values = {name: [row["metrics"][name] for row in same] for name in common([row["metrics"] for row in same])}
        found.append(
            {
                "changes": change,
                "jobs": [row["job"] for row in same],
                "mean": {name: fmean(each) for name, each in values.items()},
                "sd": {name: stdev(each) for name, each in values.items()},
            }
        )
    return found


def common(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that all of some mappings have."""
    return [key for key in mappings[0] if all(key in other for other in mappings[1:])]


def distinct(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Of each job the overrides that not all jobs share."""
    shared = set.intersection(*(set(words) for words in overrides)) if len(overrides) > 1 else set()
    return [" ".join(word for word in words if word not in shared) for words in overrides]
