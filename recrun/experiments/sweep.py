"""Multirun: every job composed and checked before the first one starts, then run by a launcher."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from recrun.config.compose import Composer, composer
from recrun.config.composition import Composition, key_of
from recrun.config.hints import override_notes
from recrun.config.portable import SWEEP
from recrun.config.search_path import search_path
from recrun.config.validate import check, check_sweep
from recrun.console import report, tables
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories, preflight, search, sweep_plan
from recrun.experiments.instantiate import InstantiationError, instantiate
from recrun.experiments.launchers import Launcher, Serial, Workers
from recrun.experiments.sweep_jobs import Jobs, Listed
from recrun.experiments.sweep_plan import Job
from recrun.experiments.sweep_summary import conclude
from recrun.experiments.trials import Trials
from recrun.runtime.process import exclusive
from recrun.runtime.run_files import refuse_links


def start(
    overrides: Sequence[str], folders: Sequence[Path] = (), *, dry_run: bool = False, fail_fast: bool = False
) -> int:
    """Plans a sweep in a directory of its own and carries it out.

    Args:
        overrides: Hydra's grammar: `seed=0,1`, `seed=range(0,5)`, `model=choice(a,b)`, `stage=glob(f*)`.
        folders: The conf folders, those that win first.
        dry_run: Check and list the jobs, write nothing.
        fail_fast: Stop at the first job that fails.

    Returns:
        The exit code.
    """
    with ExitStack() as stack:
        early: list[Workers] = []

        def begin(node: Mapping[str, Any]) -> None:
            """The workers of a launcher get ready while the jobs are composed."""
            early.append(stack.enter_context(instantiate(node).started()))

        planned = prepare(overrides, folders, dry_run=dry_run, begin=begin)
        if planned is None:
            return 0
        return carry_out(planned[0], fail_fast=fail_fast, folders=planned[1], workers=early[0] if early else None)


def prepare(
    overrides: Sequence[str],
    folders: Sequence[Path] = (),
    *,
    dry_run: bool = False,
    begin: Callable[[Mapping[str, Any]], None] | None = None,
) -> tuple[Path, Sequence[Path] | None] | None:
    """Checks a sweep or a search and makes its directory.

    Args:
        overrides, folders, dry_run: See `start`.
        begin: Called with the launcher's section of the config as soon as it is known, unless it is a dry run.

    Returns:
        The directory, and for a search the conf folders; None if nothing was to be written.
    """
    with composer(folders) as compose:
        settings = settings_of(overrides, compose)
        words = [word for word in overrides if not for_sweep(word)]
        if begin is not None and settings["launcher"] and not dry_run:
            begin(settings["launcher"])
        if settings["search"] is None:
            composed = compose_all(words, compose)
    if settings["search"] is not None:
        instantiate(settings["search"])  # refuses what its parts do not take
        words = search.with_file(words, settings["search"].get("space"), folders or search_path())
        if dry_run:
            search.show(settings["search"], words, folders)
            return None
        return search.begin(settings, words, folders), folders or search_path()
    for note in dict.fromkeys(note for job in composed for note in override_notes(job)):
        report.note(note)
    if dry_run:
        show_plan(composed)
        return None
    return plan(composed, settings), None


def for_sweep(word: str) -> bool:
    """Whether a word says how the jobs of a sweep are run, or which."""
    return key_of(word).partition(".")[0] in (*SWEEP, "pruner")


def settings_of(overrides: Sequence[str], compose: Composer) -> dict[str, Any]:
    """The sections `launcher` and `search` of the config, as typed, or as an experiment has them.

    Raises:
        ConfigError: They are wrong, or one of their keys has several values.
    """
    words = [word for word in overrides if for_sweep(word)]
    for override in compose.parse(words):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: all jobs of a sweep have the same {'/'.join(SWEEP)}")
    experiment = [word for word in overrides if key_of(word) == "experiment"]
    single = [override.input_line for override in compose.parse(experiment) if not override.is_sweep_override()]
    composed = compose([*map(str, single), *words])
    if composed.config["search"] is None and composed.option("pruner") != "none":
        raise ConfigError(f"pruner={composed.option('pruner')} stops trials of a search: add search=…")
    check_sweep(composed)
    return {section: composed.config[section] for section in SWEEP}


def compose_all(overrides: Sequence[str], compose: Composer) -> list[Composition]:
    """The checked configs of all jobs; the error of a bad one says which it is."""
    composed: dict[str, Composition] = {}
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


def show_plan(composed: Sequence[Composition]) -> None:
    """The jobs that a sweep would run."""
    parent = Path(composed[0].config["output_dir"]) / "multirun" / "<time>"
    rows = [(" ".join(job.overrides), str(parent / str(number))) for number, job in enumerate(composed)]
    tables.plan_table(rows)
    report.text(f"{len(rows)} job{'s' if len(rows) > 1 else ''}, all valid; nothing was written")


def plan(composed: Sequence[Composition], settings: Mapping[str, Any]) -> Path:
    """Makes the sweep's directory: sweep.json and one prepared run directory per job."""
    directory = directories.new_directory(Path(composed[0].config["output_dir"]) / "multirun")
    jobs = []
    for number, job in enumerate(composed):
        directories.prepare(job, directory / str(number))
        jobs.append(Job(number, job.overrides, str(number)))
    sweep_plan.write(sweep_plan.typed(jobs, settings), directory)
    return directory


def carry_out(
    directory: Path,
    *,
    fail_fast: bool = False,
    folders: Sequence[Path] | None = None,
    workers: Workers | None = None,
) -> int:
    """Runs the jobs of a sweep that are not finished and shows what came of all.

    Args:
        directory: The sweep's.
        fail_fast: Stop at the first job that fails.
        folders: The conf folders of a search that was just typed; None for a stored one.
        workers: Those of its launcher, if they have been started.

    Returns:
        0, 1 if a job did not finish, 130 if it was interrupted.

    Raises:
        InUse: Another process carries out the sweep.
    """
    from recrun.experiments.sweep_run import Sweep  # its table needs rich, for which a mistake need not wait

    refuse_links(directory)
    with exclusive(directory):
        stored = sweep_plan.read(directory)
        launcher: Launcher = made(stored.launcher, directory) if stored.launcher else Serial()
        with launcher.started() if workers is None else nullcontext(workers) as workers:
            jobs: Jobs = Listed(stored.jobs)
            if stored.search:
                jobs = Trials(directory, stored, made(stored.search, directory), workers.capacity, folders)
            sweep = Sweep(directory, jobs, workers, fail_fast)
            sweep.run()
        if sweep.interrupted:
            report.note(f"interrupted; go on with: recrun resume {directory}")
            return directories.INTERRUPTED
        return conclude(directory, jobs, [sweep.row(job) for job in jobs.listed])


def made(node: Mapping[str, Any], directory: Path) -> Any:
    """The launcher or the search of a plan."""
    try:
        return instantiate(node)
    except InstantiationError as error:
        raise RecrunError(f"{directory / sweep_plan.NAME} is damaged: {error}") from None
