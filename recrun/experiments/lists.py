"""`recrun evaluate --from`: recommendation lists of another program, evaluated as our models are, as a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recrun.config.compose import OPTION
from recrun.config.composition import Composition, key_of
from recrun.config.portable import portable
from recrun.data.io.files import sha256
from recrun.data.io.recommendations import Recommendations, read_recommendations
from recrun.data.loaders.user_rows import UserRows
from recrun.data.ragged import Ragged
from recrun.errors import ConfigError, DataError
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.lists import UNKNOWN, evaluate_lists
from recrun.experiments.directories import new_directory
from recrun.experiments.instantiate import instantiate
from recrun.experiments.results import save_profile, save_units
from recrun.experiments.run_record import RunRecord, now, write_json, write_text
from recrun.runtime.run_files import profile_file
from recrun.types import Evaluation, Split

HOW = ("evaluator", "eval_limit")  # what runs must share to be compared, whatever was typed: no part of a name
# Of the config: what decides, and what runs are found by.
KEPT = ("dataset", "split", "evaluator", "eval_limit", "seed", "tags", "plugins", "output_dir")


def evaluate_file(composed: Composition, path: Path, split: Split, name: str | None) -> tuple[Path, dict[str, Any]]:
    """Evaluates a file of recommendation lists and makes a finished run directory of it.

    Args:
        composed: A checked config; of it the data, split and evaluator count.
        path: The lists, see `read_recommendations`.
        split: Whose units they are for.
        name: What a table calls them; None = the file's.

    Returns:
        The run directory, and what is in its run.json of the lists: counts by name.

    Raises:
        ConfigError: The evaluator is not full_ranking, or the name is none.
        DataError: The file or the data cannot be used, or no list is of a unit of the split.
    """
    config, called = composed.config, name or re.sub(r"[^\w.-]+", "_", path.name.partition(".")[0]) or "lists"
    if not OPTION.fullmatch(called):
        raise ConfigError(f"--name {called}: expected letters, digits, _ . - alone")
    evaluator = instantiate(config["evaluator"]) if config.get("split") else None
    if not isinstance(evaluator, FullRanking):
        raise ConfigError("evaluate --from ranks the items of an event log: use evaluator=full_ranking")
    split_of = instantiate(config["split"])
    dataset = instantiate(config["dataset"], evaluator=evaluator, split=split_of, loader=UserRows())
    given, digest = read_recommendations(path), sha256(path)
    evaluation, counts = evaluation_of(given, dataset, evaluator, split, config["eval_limit"])
    directory = new_directory(Path(config["output_dir"]) / called / (composed.option("dataset") or "dataset"))
    write_config(directory, composed, called)
    record = RunRecord(directory)
    record.begin(run_config(composed, called))
    record.update(
        **dataset.fingerprints,
        dataset=dataset.describe(),
        lists={"file": str(path.absolute()), "sha256": digest, "split": split, **counts},
    )
    save_units(directory / "units" / f"{split}.npz", evaluation)
    save_profile(profile_file(directory, split), dataset, split, evaluation)
    write_json(directory / "results.json", results(evaluation, split, dataset))
    record.update(status="finished", end=now())
    return directory, {"metrics": evaluation.metrics, **counts}


def evaluation_of(
    given: Recommendations, dataset: Any, evaluator: FullRanking, split: Split, limit: int | None
) -> tuple[Evaluation, dict[str, int]]:
    """The evaluation, and counts of users, items and lists. Raises DataError if no list is of an evaluated unit."""
    ids = dataset.vocabulary()
    number = {str(item): index for index, item in enumerate(ids["items"].tolist())}
    index = np.array([number.get(item, UNKNOWN) for item in given.items.tolist()], np.int64)
    lists = Ragged(given.lists.offsets, index[given.lists.items])
    list_of = {user: at for at, user in enumerate(given.users.tolist())}
    known, asked = set(map(str, ids["users"].tolist())), set(map(str, dataset.units(split).tolist()))
    if not asked & list_of.keys():
        raise DataError(
            f"none of the {len(list_of)} users of the lists is a unit of the {split} split: they are called "
            f"{given.users[0]!r} there and {min(asked, default='')!r} here"
        )
    evaluation, found = evaluate_lists(evaluator, dataset, split, lists, list_of, limit)
    counts = {
        "lists": len(list_of),
        "unknown_users": len(list_of.keys() - known),
        "users_not_in_the_split": len((list_of.keys() & known) - asked),
        "recommendations": len(lists.items),
        "unknown_items": int(np.count_nonzero(index == UNKNOWN)),
        "recommendations_of_unknown_items": int(np.count_nonzero(lists.items == UNKNOWN)),
    }
    return evaluation, counts | asdict(found)


def results(evaluation: Evaluation, split: Split, dataset: Any) -> dict[str, Any]:
    """results.json, in the form that a run's has."""
    monitor = dataset.evaluator.monitor
    return {
        "valid": {},
        "test": {},
        split: evaluation.metrics,
        "stages": {},
        "monitor": monitor,
        "greater_is_better": dataset.evaluator.greater_is_better(monitor),
        "split_fingerprint": dataset.fingerprints["split_fingerprint"],
        "unit": dataset.train_unit,
    }


def run_config(composed: Composition, name: str) -> dict[str, Any]:
    """config.yaml: what decides the evaluation. Files are not in it, so that seeds of one model are one setting."""
    config = portable(composed)
    kept = {key: config[key] for key in KEPT if key in config}
    return {"model": {"lists": name}, "trainer": {}, "stage": {}, "tracker": None, **kept}


def write_config(directory: Path, composed: Composition, name: str) -> None:
    """config.yaml, and .hydra/ with what the run is called and what else was typed."""
    import yaml

    choices = {"model": name, "dataset": composed.option("dataset")}
    files: Mapping[str, Any] = {
        "config.yaml": run_config(composed, name),
        ".hydra/overrides.yaml": [word for word in composed.overrides if key_of(word).partition(".")[0] not in HOW],
        ".hydra/hydra.yaml": {"hydra": {"runtime": {"choices": choices}}},
    }
    (directory / ".hydra").mkdir()
    for file, value in files.items():
        write_text(directory / file, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
