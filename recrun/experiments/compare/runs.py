"""Finished runs read as data, gathered in settings over seeds; runs that were evaluated differently are refused."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recrun.config.composition import key_of
from recrun.errors import ConfigError, DataError, did_you_mean
from recrun.experiments.sweep_results import distinct
from recrun.runtime.run_files import inside, read_json, read_plain

FINGERPRINTS = ("dataset_fingerprint", "split_fingerprint")
# Runs that differ in these alone are of one setting.
OF_NO_SETTING = ("seed", "output_dir", "tracker", "report", "name", "tags", "time_limit")
NOT_IN_NAMES = ("model", *OF_NO_SETTING)
HOW_MUCH = ("metrics", "ks", "memory_mb", "batch_size", "monitor")  # keys of an evaluator that change no value
NOTHING = "(not set)"


@dataclass(frozen=True)
class StoredRun:
    """What a finished run directory says of itself.

    Attributes:
        directory: Where it is.
        config: config.yaml.
        record: run.json.
        results: results.json.
        overrides: The words it was composed from.
        model: The name of its model.
    """

    directory: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    results: Mapping[str, Any]
    overrides: tuple[str, ...]
    model: str

    @property
    def evaluator(self) -> Mapping[str, Any]:
        """The settings of its evaluator."""
        found = self.config.get("evaluator")
        if not isinstance(found, Mapping):
            found = mapping(self.config.get("dataset")).get("evaluator")
        return mapping(found)


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed alone."""

    name: str
    runs: tuple[StoredRun, ...]


def mapping(value: Any) -> Mapping[str, Any]:
    """A value that should be a mapping; empty if it is none."""
    return value if isinstance(value, Mapping) else {}


def typed_value(text: str) -> Any:
    """A typed value as YAML reads it; the text itself where it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def read_run(directory: Path) -> StoredRun:
    """A finished run.

    Raises:
        ConfigError: It is not finished.
        DataError: A file is missing or damaged.
    """
    record = read_json(inside(directory, "run.json"))
    if record.get("status") != "finished":
        raise ConfigError(f"{directory} is not finished: its status is {record.get('status')!r}; recrun resume goes on")
    config = read_plain(inside(directory, "config.yaml"))
    if not isinstance(config, Mapping):
        raise DataError(f"{directory / 'config.yaml'} is damaged: it holds no mapping")
    overrides = read_plain(path) if (path := inside(directory, ".hydra", "overrides.yaml")).is_file() else []
    words = tuple(printable(word) for word in overrides) if isinstance(overrides, list) else ()
    results = read_json(inside(directory, "results.json"))
    return StoredRun(directory, config, record, results, words, model_name(directory, config))


def model_name(directory: Path, config: Mapping[str, Any]) -> str:
    """The option of the group `model`, else the class."""
    path = inside(directory, ".hydra", "hydra.yaml")
    found: Any = read_plain(path) if path.is_file() else {}
    for key in ("hydra", "runtime", "choices"):
        found = mapping(found).get(key)
    target = str(mapping(config.get("model")).get("_target_", "model"))
    return printable(mapping(found).get("model") or target.rpartition(".")[2])


def printable(value: Any) -> str:
    """A text from a file, fit for a terminal: no control characters."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def find_runs(paths: Sequence[Path]) -> tuple[list[StoredRun], list[str]]:
    """The runs that paths of runs and sweeps name.

    Returns:
        The runs, and a note for each job of a sweep that is left out: it is not finished, or a search chose it twice.

    Raises:
        ConfigError: A path is neither a run nor a sweep, or named twice.
    """
    runs: dict[Path, StoredRun] = {}
    notes = []
    for path in paths:
        seen: dict[str, Path] = {}  # by config: a search may choose the same values twice
        if (path / "sweep.json").is_file():
            jobs = list(jobs_of(path))
            unfinished = [str(job) for job, status in jobs if status != "finished"]
            notes += [f"left out: {job} is not finished" for job in unfinished]
            found = [job for job, status in jobs if status == "finished"]
        elif (path / "config.yaml").is_file():
            found = [path]
        else:
            raise ConfigError(f"{path} is neither a run nor a sweep: it has no config.yaml or sweep.json")
        for directory in found:
            if directory.resolve() in runs:
                raise ConfigError(f"{directory} is named twice")
            run = read_run(directory)
            config = json.dumps(run.config, sort_keys=True, default=str)
            if config in seen:
                notes.append(f"left out: {directory} is {seen[config]} again")
                continue
            seen[config] = directory
            runs[directory.resolve()] = run
    if not runs:
        raise ConfigError("there is no finished run to compare")
    return [*runs.values()], notes


def jobs_of(sweep: Path) -> Iterator[tuple[Path, str]]:
    """The run directories of a sweep, and the status of each."""
    plan = inside(sweep, "sweep.json")
    jobs = read_json(plan).get("jobs")
    if not isinstance(jobs, list) or not all(isinstance(mapping(job).get("directory"), str) for job in jobs):
        raise DataError(f"{plan} is damaged: its jobs have no directories")
    for job in jobs:
        directory = inside(sweep, job["directory"])
        record = inside(directory, "run.json")
        yield directory, str(read_json(record).get("status")) if record.is_file() else "prepared"


def gather_settings(runs: Sequence[StoredRun]) -> list[Setting]:
    """Runs that differ by seed alone become one setting, named by its model and by how it differs from the others.

    Raises:
        ConfigError: A setting has one seed twice.
    """
    by_setting: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        decides = {key: value for key, value in run.config.items() if key not in OF_NO_SETTING}
        by_setting[json.dumps(decides, sort_keys=True, default=str)].append(run)
    for same in by_setting.values():
        refuse_repeated_seed(same)
    groups = list(by_setting.values())
    names = settings_names([same[0] for same in groups])
    return [Setting(name, tuple(same)) for name, same in zip(names, groups, strict=True)]


def refuse_repeated_seed(runs: Sequence[StoredRun]) -> None:
    """Raises ConfigError where two runs would count as two seeds and are one."""
    seen: dict[str, StoredRun] = {}
    for run in runs:
        seed = repr(run.config.get("seed"))
        other = seen.setdefault(seed, run)
        if other is not run:
            raise ConfigError(f"{other.directory} and {run.directory} are one setting with one seed ({seed}): name one")


def settings_names(runs: Sequence[StoredRun]) -> list[str]:
    """Of each setting the model and the overrides that not all share; the directory too, where these are not enough."""
    words = [[word for word in run.overrides if key_of(word) not in NOT_IN_NAMES] for run in runs]
    changes = distinct(words) if len(runs) > 1 else [""]
    names = [f"{run.model} {change}".strip() for run, change in zip(runs, changes, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} ({printable(run.directory)})"
        for name, run in zip(names, runs, strict=True)
    ]


def setting_called(settings: Sequence[Setting], name: str) -> int:
    """The index of the setting that a name, a model that only it has, or the path of a run means.

    Raises:
        ConfigError: None, or more than one, is called so.
    """
    names = [setting.name for setting in settings]
    by_model = [at for at, setting in enumerate(settings) if setting.runs[0].model == name]
    path = Path(name).resolve()
    by_path = [at for at, one in enumerate(settings) if any(run.directory.resolve() == path for run in one.runs)]
    for found in ([names.index(name)] if name in names else [], by_path, by_model):
        if len(found) == 1:
            return found[0]
    raise ConfigError(f"no one setting is called '{name}'{did_you_mean(name, names)} (there are: {'; '.join(names)})")


def refuse_other_evaluations(runs: Sequence[StoredRun]) -> None:
    """Raises ConfigError, naming two runs and what differs, unless all were evaluated on the same units alike."""
    first = runs[0]
    known = evaluated_on(first)
    for run in runs[1:]:
        other = evaluated_on(run)
        for key in dict.fromkeys([*known, *other]):
            one, two = (printable(found.get(key, NOTHING)) for found in (known, other))
            if one != two:
                raise ConfigError(
                    f"{first.directory} and {run.directory} cannot be compared: {key} is {short(one)} and {short(two)}"
                )


def short(value: str) -> str:
    """A value as a message shows it: of a fingerprint its beginning."""
    return f"{value[:12]}…" if len(value) == 64 and value.isalnum() else value


def evaluated_on(run: StoredRun) -> dict[str, Any]:
    """What must be equal for values to be comparable, by name.

    Raises:
        DataError: run.json has no dataset_fingerprint.
    """
    if not isinstance(run.record.get("dataset_fingerprint"), str):
        raise DataError(f"{run.directory / 'run.json'} has no dataset_fingerprint")
    found = {name: run.record[name] for name in FINGERPRINTS if name in run.record}
    mask_seen = mapping(run.config.get("dataset")).get("mask_seen")
    found |= {"eval_limit": run.config.get("eval_limit")} | ({} if mask_seen is None else {"mask_seen": mask_seen})
    settings = {f"evaluator.{key}": value for key, value in run.evaluator.items() if key not in HOW_MUCH}
    return found | settings
