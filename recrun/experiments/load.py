"""The weights that a finished run kept: read again, and evaluated on the run's own data or on other data."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from recrun.checkpoints import checkpoint
from recrun.errors import CheckpointError, ConfigError, DataError
from recrun.experiments import run_record
from recrun.experiments.build import Config, build_dataset, build_model, sizes_for
from recrun.experiments.instantiate import resolve
from recrun.experiments.results import Results, evaluate_splits
from recrun.experiments.run import ALL_THREADS, load_config
from recrun.interfaces import Dataset
from recrun.runtime.device import Device
from recrun.runtime.escapes import as_lines
from recrun.runtime.run_files import open_plain, read_text

logger = logging.getLogger(__name__)


def evaluate(directory: Path, config: Config | None = None) -> Results:
    """Evaluates the weights that a finished run kept, on its own data or on other data.

    Args:
        directory: A run directory.
        config: The run's config with changes, for example another `dataset.path`; its own by default.

    Returns:
        {"valid": metrics, "test": metrics, "fingerprint": of the data}, also added to the run's evaluations.jsonl.

    Raises:
        CheckpointError: The run has no finished stage, or its weights do not fit the data's catalogue.
        DataError: There is nothing to evaluate.
    """
    config = config or load_config(directory)
    return evaluate_loaded(directory, config, load(directory, config))


def evaluate_loaded(directory: Path, config: Config, loaded: Loaded) -> Results:
    """The same, of what was loaded with a config."""
    model, dataset, device, card = loaded
    found = evaluate_splits(model, dataset, device, config["eval_limit"])
    if not found:
        raise DataError("the valid and the test split have nothing to evaluate: empty, or without labels")
    results = {"stage": card["stage"], "epoch": card["epoch"], **dataset.fingerprints}
    results |= {split: evaluation.metrics for split, evaluation in found.items()}
    line = json.dumps({"time": run_record.now(), "dataset": config["dataset"], **results}) + "\n"
    with open_plain(directory / "evaluations.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        file.write(line.encode())
    return results


class Loaded(NamedTuple):
    """The model of a run with the weights it kept, the data, the device, and the checkpoint's card."""

    model: nn.Module
    dataset: Dataset
    device: Device
    card: Mapping[str, Any]


def load(directory: Path, config: Mapping[str, Any]) -> Loaded:
    """A finished run, to be used.

    Args:
        directory: A run directory.
        config: The run's config, perhaps with changes.

    Raises:
        CheckpointError: The run has no finished stage, or its weights do not fit the data's catalogue.
    """
    own = load_config(directory)
    trained = own["dataset"]
    other_data = any(config.get(part) != own.get(part) for part in ("dataset", "split"))
    if other_data:
        config = on_catalogue_of(directory, config, trained)
    device = Device.named(config["device"], config["precision"])
    torch.set_num_threads(config["threads"] or ALL_THREADS)
    weights = checkpoint.find(directory)
    refuse_other_model(weights, config["model"])
    dataset: Dataset = build_dataset(config)
    model = build_model(config, dataset).to(device.torch)
    same_vocabulary(directory, config, dataset)
    card = checkpoint.load_weights(weights, model)
    here = dataset.fingerprints
    changed = [name for name in here if here[name] != card.get(name)]
    if changed and not other_data:
        raise DataError(
            f"the data of {directory} are not those of its training any more ({changed[0]}): a file was changed, or is "
            f"another one (dataset.path={config['dataset'].get('path')}); put it back, or type dataset.path=… to "
            "evaluate on other data"
        )
    if changed and same_source(config["dataset"], trained):
        logger.warning("the data split differs from the training run's: evaluated rows may overlap its training rows")
    return Loaded(model, dataset, device, card)


def refuse_other_model(weights: Path, model: Mapping[str, Any]) -> None:
    """Raises CheckpointError, naming the key, if a model is not the one that a checkpoint's weights are of."""
    trained = checkpoint.read_card(weights).get("model")
    if trained != model:
        key, here, there = run_record.first_difference(trained, model)
        raise CheckpointError(
            f"{weights} holds weights of another model: {'.'.join(filter(None, ('model', key)))} is {there} there and "
            f"{here} here; leave the model's keys as the run has them"
        )


def on_catalogue_of(directory: Path, config: Mapping[str, Any], trained: Mapping[str, Any]) -> Mapping[str, Any]:
    """Other data are read with the ids that the weights know, where the data set can do so.

    Args:
        directory: A run directory.
        config: The run's config with changes.
        trained: The run's own `dataset`.

    Raises:
        ConfigError: A key is changed that says what was learned of the training rows.
    """
    made = resolve(config["dataset"]["_target_"])
    for key in getattr(made, "learned", ()):
        if config["dataset"].get(key) != trained.get(key):
            raise ConfigError(f"dataset.{key} cannot change: the weights rely on what the run learned of its columns")
    accepted = inspect.signature(made).parameters
    folder = directory / "vocabulary"
    unseen = other_rows(config["dataset"], trained)
    known = {"run_vocabulary": str(folder), "unseen": unseen}
    given = {key: value for key, value in known.items() if key in accepted}
    return {**config, "dataset": {**config["dataset"], **given}}


def other_rows(asked: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    """Whether the rows of a data set come from elsewhere than a run's did; one file may be called by several names."""
    return asked.get("test_path") == trained.get("test_path") and not same_source(asked, trained)


def same_source(asked: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    """Whether two data sets read the same files, or make the same rows."""
    if any(asked.get(key) != trained.get(key) for key in ("source", "test_path")):
        return False
    return asked.get("path") == trained.get("path") or data_path(asked) == data_path(trained)


def data_path(dataset: Mapping[str, Any]) -> Path:
    """Where `dataset.path` is: under `dataset.root` or the working directory."""
    path = Path(dataset.get("path") or "").expanduser()
    under_root = Path(dataset.get("root") or "").expanduser() / path
    return (under_root if under_root.exists() else path).resolve()


def same_vocabulary(directory: Path, config: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises CheckpointError unless the data number items, and what else the weights know, as the run's data did."""
    known = sizes_for(config, dataset)
    for name, ids in dataset.vocabulary().items():
        path = directory / "vocabulary" / f"{name}.txt"
        decides = {name, f"n_{name}", "features"} & known.keys()  # features are made of all that a table learned
        if decides and vocabulary(path) != as_lines(ids):
            raise CheckpointError(
                f"{directory} was trained with other {name}: {path} is not what this data set holds, in its order"
            )


def vocabulary(path: Path) -> str:
    """A file of a run's vocabulary. Raises CheckpointError if it is not there."""
    try:
        return read_text(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: the run is not whole, or was never started") from None
