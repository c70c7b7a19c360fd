"""sweep.json: the jobs of a sweep and how they are launched. It is data: what it names is checked when it is read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recrun.config.compose import OPTION
from recrun.config.composition import Composition
from recrun.config.portable import SWEEP
from recrun.config.validate import check_sweep
from recrun.errors import ConfigError, RecrunError
from recrun.experiments.run_record import write_text
from recrun.runtime.run_files import read_json

NAME = "sweep.json"


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Attributes:
        number: Its number, from 0.
        overrides: The words that it was composed from.
        directory: The name of its run directory, beside sweep.json.
        values: Of a trial: what the search chose, by key.
        refused: Why its config cannot work, where the search combined values that do not go together.
    """

    number: int
    overrides: Sequence[str]
    directory: str
    values: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class Plan:
    """What sweep.json holds.

    Attributes:
        argv: The command line.
        jobs: By number.
        launcher: Node of the config: what runs the jobs.
        search: Node of the config: what chooses the trials; None for a sweep over listed values.
        overrides: Of a search, the typed words, the searched keys among them.
        lag: Of a search, how many jobs run at a time: a trial knows the values of all but the last `lag` - 1 before it;
            0 before it began.
    """

    argv: Sequence[str]
    jobs: Sequence[Job]
    launcher: Mapping[str, Any] | None = None
    search: Mapping[str, Any] | None = None
    overrides: Sequence[str] = ()
    lag: int = 0

    def with_job(self, job: Job) -> Plan:
        """The plan with one job more."""
        return replace(self, jobs=(*self.jobs, job))


def write(plan: Plan, directory: Path) -> None:
    """Writes sweep.json whole or not at all."""
    values: dict[str, Any] = {"argv": list(plan.argv), "launcher": plan.launcher}
    if plan.search is not None:
        values |= {"search": plan.search, "overrides": list(plan.overrides), "lag": plan.lag}
    write_text(directory / NAME, json.dumps({**values, "jobs": [entry(job) for job in plan.jobs]}, indent=2) + "\n")


def entry(job: Job) -> dict[str, Any]:
    """A job as it is written."""
    found: dict[str, Any] = {"number": job.number, "overrides": list(job.overrides), "directory": job.directory}
    return found | {key: value for key, value in (("values", job.values), ("refused", job.refused)) if value}


def typed(jobs: Sequence[Job], settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """The plan of a sweep that was just typed; `settings` are the sections of the config that are about sweeps."""
    return Plan(sys.argv, tuple(jobs), settings["launcher"], settings["search"], tuple(overrides))


def read(directory: Path) -> Plan:
    """The plan of a stored sweep.

    Raises:
        RecrunError: It is damaged, or names what it may not name.
    """
    path = directory / NAME
    found = read_json(path)
    listed = found.get("jobs")
    searched = isinstance(found.get("search"), dict)
    if not isinstance(listed, list) or not (listed or searched) or not all(isinstance(job, dict) for job in listed):
        raise RecrunError(f"{path} is damaged: it lists no jobs")
    jobs = tuple(read_job(job, path) for job in listed)
    if [job.number for job in jobs] != sorted({job.number for job in jobs}):
        raise RecrunError(f"{path} is damaged: its jobs are not in the order of their numbers")
    nodes = checked({section: found[section] for section in SWEEP if isinstance(found.get(section), dict)}, directory)
    overrides, lag = words_of(found.get("overrides", []), path), found.get("lag", 0)
    if type(lag) is not int or lag < 0:
        raise RecrunError(f"{path} is damaged: lag is no whole number")
    argv = found.get("argv")
    return Plan(argv if isinstance(argv, list) else (), jobs, nodes["launcher"], nodes["search"], overrides, lag)


def checked(sections: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The sections about sweeps as a stored plan has them; ConfigError if they cannot work, or name foreign code."""
    from omegaconf import OmegaConf

    node = OmegaConf.create({**dict.fromkeys(SWEEP), **sections})
    composed = Composition(node, OmegaConf.create({"runtime": {"choices": {}}}), [*SWEEP], run=directory)
    try:
        check_sweep(composed)
    except ConfigError as error:
        raise ConfigError(f"{directory / NAME}: {error}") from None
    return composed.config


def read_job(job: Mapping[str, Any], path: Path) -> Job:
    """One entry; its directory is the name of a folder beside sweep.json, and nothing else."""
    name, values, refused = job.get("directory"), job.get("values", {}), job.get("refused", "")
    if not isinstance(name, str) or not OPTION.fullmatch(name) or type(job.get("number")) is not int:
        raise RecrunError(f"{path} is damaged: a job's directory is {str(name)[:100]!r}")
    if not isinstance(values, dict) or not isinstance(refused, str):
        raise RecrunError(f"{path} is damaged: job {job['number']} has values that are no mapping")
    return Job(job["number"], words_of(job.get("overrides"), path), name, values, refused)


def words_of(words: Any, path: Path) -> tuple[str, ...]:
    """Overrides."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RecrunError(f"{path} is damaged: a job's overrides are no list of words")
    return tuple(words)
