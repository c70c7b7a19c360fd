"""The data set, the model and the trainers of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from recrun.config.schema import signature
from recrun.config.stage_order import trainer_of
from recrun.errors import ConfigError
from recrun.experiments.instantiate import instantiate, resolve
from recrun.runtime import seeds
from recrun.training.trainer import Trainer

FINISHED_BY_TRAINER = ("optimizer", "scheduler", "weighting")  # what it makes of parameters, optimizer and model

Config = dict[str, Any]


class Sized(Protocol):
    """What decides how large a model is: a data set, or what a finished run remembers of it."""

    @property
    def sizes(self) -> Mapping[str, Any]:
        """Constructor arguments of the model by name."""


def build_dataset(config: Mapping[str, Any]) -> Any:
    """The data set, with the evaluator and, for event logs, the split and the loader that were chosen."""
    chosen = {name: instantiate(config[name]) for name in ("evaluator", "split", "loader") if config.get(name)}
    return instantiate(config["dataset"], **chosen)


def build_trainers(config: Config) -> dict[str, Trainer]:
    """One trainer per stage: the trainer's keys, some of them replaced whole by the stage's."""
    trainers = {}
    for name, changes in config["stage"].items():
        keys = trainer_of(config["trainer"], changes)
        keys.pop("follows", None)
        keys |= {key: {**keys[key], "_partial_": True} for key in FINISHED_BY_TRAINER if keys.get(key)}
        if config["epochs"] is not None and "epochs" in keys:
            keys["epochs"] = config["epochs"]
        trainers[name] = instantiate(keys)
    return trainers


def build_model(config: Mapping[str, Any], dataset: Sized) -> nn.Module:
    """The model, with the sizes that its constructor asks for and the data decide.

    Raises:
        ConfigError: A parameter has no default, and neither the config nor the data give it.
    """
    refuse_missing(config["model"], dataset)
    seeds.seed_torch(config["seed"], "init")
    model: nn.Module = instantiate(config["model"], **sizes_for(config, dataset))
    return model


def refuse_missing(node: Mapping[str, Any], dataset: Sized) -> None:
    """Raises ConfigError for a parameter of the model that nobody gives."""
    for name, field in signature(node["_target_"]).fields.items():
        if field.required and name not in node and name not in dataset.sizes:
            raise ConfigError(
                f"model.{name} is required by {node['_target_']} and has no default, and these data do not give it; "
                f"they give {', '.join(dataset.sizes)}"
            )


def sizes_for(config: Mapping[str, Any], dataset: Sized) -> dict[str, Any]:
    """What the model's constructor asks for and the data decide."""
    known = inspect.signature(resolve(config["model"]["_target_"])).parameters
    return {name: size for name, size in dataset.sizes.items() if name in known}
