"""What only torch can say of a config, asked before a run directory is made; torch is loaded only if a key needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from recrun.config.stage_order import trainer_of


def check(config: Mapping[str, Any]) -> None:
    """Refuses a device that this machine does not have, and a metric that the data set's evaluator does not compute.

    Args:
        config: A checked config.

    Raises:
        ConfigError: See above.
    """
    device(config)
    monitors(config)


def device(config: Mapping[str, Any]) -> None:
    """Refuses a device or precision that this machine does not have."""
    name, precision, devices = config["device"], config["precision"], config["devices"]
    if name == "cpu" or (name == "auto" and precision != "fp16" and devices == 1):
        return
    from recrun.runtime.device import Device

    Device.of_ranks(name, precision, devices)


def monitors(config: Mapping[str, Any]) -> None:
    """Refuses a stage's monitor that is no metric of the evaluator, where the config alone says which there are."""
    chosen = {}
    for name, node in config["stage"].items():
        own = node or {}
        key = f"stage.{name}.monitor" if "monitor" in own else "trainer.monitor"
        monitor = trainer_of(config["trainer"], own).get("monitor")
        if monitor is not None:
            chosen[key] = monitor
    evaluator = config.get("evaluator")
    if not chosen or not evaluator:
        return
    from recrun.training.monitor import refuse_unknown

    known = names_of(evaluator, config["dataset"].get("tasks") or {})
    for key, monitor in chosen.items():
        if known:
            refuse_unknown(monitor, known, key)


def objectives(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuses an objective of a search that the evaluator does not compute, where the config says what it does."""
    evaluator = config.get("evaluator")
    known = names_of(evaluator, config["dataset"].get("tasks") or {}) if names and evaluator else []
    if known:
        from recrun.training.monitor import refuse_unknown

        for name in names:
            refuse_unknown(name, known, "search.objectives")


def names_of(evaluator: Mapping[str, Any], tasks: Mapping[str, Any]) -> list[str]:
    """The metrics of an evaluator; none where the data decide."""
    from recrun.experiments.instantiate import InstantiationError, instantiate
    from recrun.features import Task

    kinds = {name: keys.get("kind") if isinstance(keys, Mapping) else keys for name, keys in tasks.items()}
    sizes = {"tasks": [Task(name, kind or "classification") for name, kind in kinds.items()]} if tasks else {}
    try:
        names = getattr(instantiate(evaluator), "names", None)
        return list(names(SimpleNamespace(sizes=sizes))) if names else []
    except (AttributeError, KeyError, InstantiationError):  # the run will say what is wrong, if anything
        return []
