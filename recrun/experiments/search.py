"""A search: trials are jobs of a sweep, chosen one after another by what validation said of those before them.

What a trial is depends on the study's seed, its number and the values of earlier trials alone: with a launcher that
runs n jobs at a time, of all but the last n - 1. So a search that was killed ends with the trials that it would have
had. Nothing of optuna is stored: the study is asked again for each stored trial, with the values that it had.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recrun.config.compose import FileCache, composer
from recrun.config.composition import Composition, key_of
from recrun.config.hints import override_notes
from recrun.config.portable import portable
from recrun.config.search_space import Space, read_space
from recrun.config.space_files import with_space
from recrun.config.stored import load, raw
from recrun.config.validate import check
from recrun.console import report
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories, preflight, sweep_plan
from recrun.experiments.best_experiment import write_best
from recrun.experiments.pruners import Bounds, Trajectory
from recrun.experiments.pruning import trajectory, write_bounds
from recrun.experiments.run_record import first_difference
from recrun.experiments.samplers import Search
from recrun.experiments.study import Study, loss_of
from recrun.experiments.sweep_jobs import Row
from recrun.experiments.sweep_plan import Job, Plan
from recrun.experiments.sweep_results import over_seeds
from recrun.runtime.run_files import read_json


def checked(words: Sequence[str], folders: Sequence[Path]) -> tuple[Space, Composition]:
    """The space of a search, and the config of one trial; every value that the space names was checked.

    Raises:
        ConfigError: The space, or a trial in it, cannot work.
    """
    with composer(folders) as compose:
        space = read_space(words, compose)
        found = []
        for values in space.corners():
            overrides = space.overrides(values)
            try:
                found.append(compose(overrides))
                check(found[-1])
                preflight.check(found[-1].config)
            except ConfigError as error:
                whole = "; whole numbers: int(interval(…))" if "expected a whole number" in str(error) else ""
                raise ConfigError(f"{error}{whole}\nin a trial with {space.label(values)}") from None
    return space, found[0]


def with_file(words: Sequence[str], space: str | None, folders: Sequence[Path]) -> list[str]:
    """Typed words with those of the file of a space, if there is one."""
    if space is None:
        return [*words]
    with composer(folders) as compose:
        single = [str(word.input_line) for word in compose.parse(words) if not word.is_sweep_override()]
        return with_space(words, space, folders, compose(single).config)


def show(search: Mapping[str, Any], words: Sequence[str], folders: Sequence[Path]) -> None:
    """What a search would do."""
    space, first = checked(words, folders)
    rows = [(key, next(word for word in words if word.startswith(f"{key}="))) for key in space.dimensions]
    report.listing("space", rows)
    parent = Path(first.config["output_dir"]) / "multirun" / "<time>"
    last = search.get("trials", Search.trials) + search.get("refit_seeds", Search.refit_seeds) - 1
    report.text(f"{last + 1} jobs, {parent / '0'} to {parent / str(last)}; all valid; nothing was written")


def begin(settings: Mapping[str, Any], words: Sequence[str], folders: Sequence[Path]) -> Path:
    """Checks a search and makes its directory.

    Args:
        settings: The sections `search` and `launcher`.
        words: All other words that were typed.
        folders: The conf folders.
    """
    _, first = checked(words, folders)
    for note in override_notes(first):
        report.note(note)
    directory = directories.new_directory(Path(first.config["output_dir"]) / "multirun")
    sweep_plan.write(sweep_plan.typed((), settings, words), directory)
    return directory


class Trials:
    """The jobs of a search: its trials, then the best one with other seeds.

    Args:
        directory: The sweep's.
        plan: What it holds.
        search: How trials are chosen.
        at_a_time: How many jobs the launcher runs; kept in the plan when the first trial is chosen.
        folders: The conf folders; None for a stored search, which may have come from anybody.

    Raises:
        ConfigError: The stored trials were composed from other files.
    """

    def __init__(
        self, directory: Path, plan: Plan, search: Search, at_a_time: int, folders: Sequence[Path] | None
    ) -> None:
        self.directory, self.search, self.folders = directory, search, folders
        self.plan = plan if plan.lag else replace(plan, lag=at_a_time)
        self.files: FileCache = {}
        self.latest: Composition | None = None  # composed to be checked, then to be written
        with composer(folders or (), self.files) as compose:
            self.space = read_space(plan.overrides, compose)
        self.count = search.trials + search.refit_seeds
        self.study = Study(search, self.space.dimensions)
        self.asked = self.told = 0
        self.rows: dict[int, Row] = {}
        self.trajectories: dict[int, Trajectory] = {}  # of trials that have ended, where trials are stopped
        for job in plan.jobs[: search.trials]:
            self.refuse_strange(job)
        self.refuse_other_files()

    @property
    def listed(self) -> Sequence[Job]:
        """See Jobs."""
        return self.plan.jobs

    def next(self) -> Job | None:
        """See Jobs."""
        number = self.asked
        known = number - self.plan.lag + 1 if number < self.search.trials else self.search.trials
        if number == self.count or any(earlier not in self.rows for earlier in range(known)):
            return None
        job = self.trial(number, known) if number < self.search.trials else self.refit(number)
        self.asked += job is not None
        return job

    def trial(self, number: int, known: int) -> Job:
        """A trial that was stored, or a new one, after the study knows the values of the first `known`."""
        for earlier in range(self.told, known):
            self.tell(earlier)
        if number < len(self.plan.jobs):
            job = self.plan.jobs[number]
            self.study.ask(number, job.values)
        else:
            values = self.study.ask(number)
            job = self.add(Job(number, self.space.overrides(values), str(number), values))
        return self.prepared(job, self.bounds(number, known))

    def tell(self, number: int) -> None:
        """Tells the study how a trial ended."""
        row = self.rows[number]
        self.study.tell(number, loss_of(row), self.trajectories[number] if row["status"] == "pruned" else None)
        self.told = number + 1

    def bounds(self, number: int, known: int) -> Bounds | None:
        """What a trial must reach, given the first `known` trials; None where trials are not stopped."""
        if self.search.pruner is None:
            return None
        earlier = [self.trajectories[other] for other in range(known) if other in self.trajectories]
        return self.search.pruner.bounds(number, earlier)

    def refit(self, number: int) -> Job | None:
        """The best trial with another seed; None if no trial finished."""
        best = self.best()
        if best is None:
            return None
        if number < len(self.plan.jobs):
            return self.prepared(self.plan.jobs[number])
        job = self.plan.jobs[best["job"]]
        seed = load(self.directory / job.directory)["seed"] + 1 + number - self.search.trials
        words = [word for word in job.overrides if key_of(word) != "seed"]
        return self.prepared(self.add(Job(number, [*words, f"seed={seed}"], str(number), job.values)))

    def add(self, job: Job) -> Job:
        """Checks a new job and adds it to sweep.json; one whose values do not go together is marked as refused."""
        try:
            self.composed(job)
        except ConfigError as error:
            job = replace(job, refused=str(error))
        self.plan = self.plan.with_job(job)
        sweep_plan.write(self.plan, self.directory)
        return job

    def composed(self, job: Job) -> Composition:
        """The checked config of a job."""
        if self.latest is not None and self.latest.overrides == [*job.overrides]:
            return self.latest
        with composer(self.folders or (), self.files) as compose:
            found = compose(job.overrides)
        if self.folders is None:  # a stored search names no code but what was allowed anew
            found = replace(found, run=self.directory)
        check(found)
        preflight.check(found.config)
        self.latest = found
        return found

    def prepared(self, job: Job, bounds: Bounds | None = None) -> Job:
        """A job with its run directory, which is made whole or not at all.

        Args:
            job: The job.
            bounds: What stops it early; None for nothing.
        """
        directory = self.directory / job.directory
        if not job.refused and not directory.exists():
            fresh = directory.with_name(f"{directory.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            directories.prepare(self.composed(job), fresh)
            if bounds is not None:
                write_bounds(bounds, fresh)
            fresh.rename(directory)
        return job

    def ended(self, job: Job, row: Row) -> None:
        """See Jobs.

        Raises:
            RecrunError: Another process runs the trial, or it was not evaluated as the others were.
        """
        if row["status"] == "running":
            again = f"recrun resume {self.directory}"
            raise RecrunError(f"another process runs job {job.number}; when it has ended: {again}")
        finished = [one for one in (*self.rows.values(), row) if one["status"] == "finished"]
        if len({(one["monitor"], one["split_fingerprint"]) for one in finished}) > 1:
            raise RecrunError(f"job {job.number} was evaluated by another metric or on other data than earlier trials")
        loss_of(row)
        self.rows[job.number] = row
        if self.search.pruner is not None and row["status"] in ("finished", "pruned"):
            path = self.directory / job.directory / "run.json"
            found = trajectory(job.number, read_json(path), path)
            self.trajectories |= {job.number: found} if found is not None else {}

    def changes(self, job: Job) -> str:
        """See Jobs."""
        seed = [job.overrides[-1]] if job.number >= self.search.trials else []
        return " ".join([self.space.label(dict(job.values)), *seed])

    def best(self) -> Row | None:
        """The line of the best trial by validation, the first of equals; None if none finished."""
        trials = [self.rows[number] for number in range(self.search.trials) if number in self.rows]
        finished = [(loss, row) for row in trials if (loss := loss_of(row)) is not None and math.isfinite(loss)]
        return min(finished, key=lambda found: found[0])[1] if finished else None

    def conclude(self, rows: Sequence[Row]) -> tuple[list[Row], Row | None]:
        """See Jobs. Of seeds, those that the search did not choose by; the best trial is written as an experiment."""
        row = self.best()
        if row is None:
            return [], None
        refits = over_seeds([other for other in rows if other["job"] >= self.search.trials])
        settings = [{**setting, "changes": row["changes"]} for setting in refits]
        values = {split: row[split][row["monitor"]] for split in ("valid", "test") if row["monitor"] in row[split]}
        about = f"validation {row['monitor']}: {values['valid']:.4f}, job {row['job']}"
        write_best(self.directory, row["overrides"], f"Best of {min(len(rows), self.search.trials)} trials by {about}")
        return settings, {"changes": row["changes"], "jobs": [row["job"]], "monitor": row["monitor"], **values}

    def refuse_strange(self, job: Job) -> None:
        """Raises RecrunError for a stored trial with values that are not of the space, or other words than theirs."""
        path, values = self.directory / sweep_plan.NAME, dict(job.values)
        fits = values.keys() == self.space.dimensions.keys()
        if not fits or not all(self.space.dimensions[key].holds(value) for key, value in values.items()):
            raise RecrunError(f"{path} is damaged: the values of job {job.number} are not of the space")
        if [*job.overrides] != self.space.overrides(values):
            raise RecrunError(f"{path} is damaged: the overrides of job {job.number} are not those of the search")

    def refuse_other_files(self) -> None:
        """Raises ConfigError if trials that are still to be chosen would be composed from other YAML files."""
        stored = [job for job in self.plan.jobs if not job.refused and (self.directory / job.directory).exists()]
        if not stored or len(self.plan.jobs) == self.count:
            return
        was, now_is = raw(self.directory / stored[0].directory), portable(self.composed(stored[0]))
        key, now_is, was = first_difference(was, now_is)
        if now_is != was:
            raise ConfigError(
                f"{self.directory}: further trials would differ from the stored ones: {key} is {now_is}, and was {was}"
                "; go on in the folder, and with the YAML files, that the search began with"
            )
