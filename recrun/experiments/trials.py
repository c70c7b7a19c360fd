"""The trials of a search, chosen one after another by what validation said of those before them.

What a trial is depends on the study's seed, its number and the values of earlier trials alone: with a launcher that
runs n jobs at a time, of all but the last n - 1. So a search that was killed ends with the trials that it would have
had. Nothing of optuna is stored: the study is asked again for each stored trial, with the values that it had.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recrun.config.compose import FileCache, composer
from recrun.config.composition import Composition, key_of
from recrun.config.portable import portable
from recrun.config.search_space import read_space
from recrun.config.stored import load, raw
from recrun.config.validate import check
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories, preflight, sweep_plan
from recrun.experiments.best_trials import best_trial, pareto_front, write_experiments
from recrun.experiments.pruners import Bounds, Trajectory
from recrun.experiments.pruning import trajectory, write_bounds
from recrun.experiments.run_record import first_difference
from recrun.experiments.samplers import Search
from recrun.experiments.study import Study, losses_of
from recrun.experiments.sweep_jobs import Row
from recrun.experiments.sweep_plan import Job, Plan
from recrun.experiments.sweep_results import over_seeds
from recrun.runtime.run_files import read_json


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
        stopped = self.trajectories[number] if row["status"] == "pruned" else None
        self.study.tell(number, losses_of(row, self.search.objectives), stopped)
        self.told = number + 1

    def bounds(self, number: int, known: int) -> Bounds | None:
        """What a trial must reach, given the first `known` trials; None where trials are not stopped."""
        if self.search.pruner is None:
            return None
        earlier = [self.trajectories[other] for other in range(known) if other in self.trajectories]
        return self.search.pruner.bounds(number, earlier)

    def refit(self, number: int) -> Job | None:
        """The best trial with another seed; None if no trial finished."""
        best = best_trial(self.finished(), self.search.objectives)
        if best is None:
            return None
        if number < len(self.plan.jobs):
            return self.prepared(self.plan.jobs[number])
        job = self.plan.jobs[best["jobs"][0]]
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
        losses_of(row, self.search.objectives)
        self.rows[job.number] = row
        if self.search.pruner is not None and row["status"] in ("finished", "pruned"):
            path = self.directory / job.directory / "run.json"
            found = trajectory(job.number, read_json(path), path)
            self.trajectories |= {job.number: found} if found is not None else {}

    def changes(self, job: Job) -> str:
        """See Jobs."""
        seed = [job.overrides[-1]] if job.number >= self.search.trials else []
        return " ".join([self.space.label(dict(job.values)), *seed])

    def finished(self) -> list[Row]:
        """The lines of the trials that are trained to their end, without those of further seeds."""
        trials = [self.rows[number] for number in range(self.search.trials) if number in self.rows]
        return [row for row in trials if row["status"] == "finished"]

    def conclude(self, rows: Sequence[Row]) -> dict[str, Any]:
        """See Jobs. Of seeds, those that the search did not choose by; the best trials are written as experiments."""
        objectives, finished = self.search.objectives, self.finished()
        found: dict[str, Any] = {"over_seeds": [], "best": None, "importance": self.importance()}
        if len(objectives) > 1:
            found["front"] = pareto_front(finished, objectives)
            chosen = [(f"job_{best['jobs'][0]}", best) for best in found["front"]]
        else:
            found["best"] = best_trial(finished, objectives)
            chosen = [("best", found["best"])] if found["best"] else []
            refits = over_seeds([other for other in rows if other["job"] >= self.search.trials])
            found["over_seeds"] = [{**setting, "changes": found["best"]["changes"]} for setting in refits]
        write_experiments(self.directory, chosen, self.rows, min(len(rows), self.search.trials))
        return found

    def importance(self) -> dict[str, dict[str, float]]:
        """How much each key mattered to each objective; empty where too few trials finished."""
        for number in range(self.told, self.search.trials):
            if number not in self.rows:
                return {}
            self.tell(number)
        return self.study.importance(self.search.objectives or [row["monitor"] for row in self.finished()[:1]])

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
