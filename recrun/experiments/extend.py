"""More epochs for a run: its last stage goes on where it ended, with the state of its optimizer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recrun.checkpoints.metadata import STATE
from recrun.config.composition import key_of
from recrun.config.schema import signature
from recrun.config.stage_order import trainer_of
from recrun.config.stored import raw
from recrun.errors import ConfigError, RecrunError
from recrun.experiments.run_record import (
    RunRecord,
    config_sha256,
    now,
    typed_in,
    write_json,
    write_text,
)
from recrun.runtime.process import exclusive
from recrun.runtime.run_files import read_json

LENGTHS = ("total_steps", "T_max")  # of a schedule that is made for a number of epochs


def extend(directory: Path, words: Sequence[str]) -> None:
    """Gives the last stage of a run more epochs: config.yaml and run.json say so; `resume` then does the rest.

    Args:
        directory: A run directory.
        words: What was typed behind it, `epochs=9` alone.

    Raises:
        ConfigError: Other words, no more epochs than there are, or a training that more epochs do not continue.
    """
    epochs = wanted(words)
    if (directory / "sweep.json").is_file():
        raise ConfigError(
            f"{directory} is a sweep: extend its runs one by one, recrun resume {directory / '0'} {words[0]}"
        )
    with exclusive(directory):
        config, record = read(directory), RunRecord(directory)
        record.refuse_edited(config)
        if record.values.get("status") == "pruned":
            again = f"recrun {' '.join(map(shlex.quote, typed_in(directory)))}"
            raise ConfigError(f"{directory} was stopped by its search; a run that is trained to its end: {again}")
        before = refuse_no_more(config, record, epochs)
        refuse_without_state(directory, record, last_stage(config)[0], epochs)
        set_epochs(config, epochs)
        record.update(
            status="interrupted",
            extended=[*record.values.get("extended", []), {"time": now(), "epochs": [before, epochs]}],
            config_sha256=config_sha256(config),
            config=config,
        )
        write(directory, config)
        reopen(directory, last_stage(config)[0])


def wanted(words: Sequence[str]) -> int:
    """The number of `epochs=9`."""
    value = words[0].partition("=")[2]
    if len(words) > 1 or key_of(words[0]) != "epochs" or not value.isdecimal() or int(value) == 0:
        raise ConfigError(
            f"resume goes on with the config that is in the run directory, not with {' '.join(words)}\n"
            "it takes epochs=N alone, which gives the last stage more epochs; for other changes start a new run with "
            "pre_model_path=RUN"
        )
    return int(value)


def refuse_no_more(config: dict[str, Any], record: RunRecord, epochs: int) -> int:
    """The last stage's epochs so far; raises ConfigError if more of them would change nothing, or something else."""
    name, node = last_stage(config)
    trainer: dict[str, Any] = trainer_of(config["trainer"], node)
    before: int = config["epochs"] or trainer["epochs"]
    trained = record.values["stages"].get(name, {}).get("epochs", 0)
    if epochs <= before:
        raise ConfigError(f"epochs={epochs}: stage {name} has {before} epochs already; give more to extend the run")
    if 0 < trained < before:
        raise ConfigError(
            f"epochs={epochs}: early stopping ended stage {name} after {trained} of {before} epochs "
            f"(patience={trainer['patience']}); start a new run with another trainer.patience and pre_model_path"
        )
    scheduler = trainer.get("scheduler") or {}
    known = signature(scheduler["_target_"]).fields if scheduler else {}
    if any(length in known and scheduler.get(length) is None for length in LENGTHS):
        raise ConfigError(
            f"epochs={epochs}: the schedule {scheduler['_target_']} of stage {name} was made for {before} epochs, "
            "which are over; start a new run with pre_model_path"
        )
    return before


def refuse_without_state(directory: Path, record: RunRecord, stage: str, epochs: int) -> None:
    """Raises ConfigError if a finished stage has not kept what its training goes on from."""
    if stage in record.values["stages"] and not (directory / stage / "last" / STATE).is_file():
        raise ConfigError(
            f"epochs={epochs}: stage {stage} is finished and has no optimizer state any more (keep_state=none, or "
            "recrun clean); start a new run with pre_model_path=RUN, and give keep_state=last to runs that may go on"
        )


def last_stage(config: dict[str, Any]) -> tuple[str, Any]:
    """Name and trainer keys of the last stage."""
    name = [*config["stage"]][-1]
    return name, config["stage"][name]


def set_epochs(config: dict[str, Any], epochs: int) -> None:
    """Sets the last stage's epochs where the config has them; the other stages keep theirs."""
    stages = config["stage"]
    if len(stages) == 1:
        name, node = last_stage(config)
        holder = config if config["epochs"] is not None else node if "epochs" in (node or {}) else config["trainer"]
        holder["epochs"] = epochs
        return
    for name in stages:
        stages[name] = dict(stages[name] or {})
        if config["epochs"] is not None:
            stages[name]["epochs"] = config["epochs"]
    config["epochs"] = None
    last_stage(config)[1]["epochs"] = epochs


def reopen(directory: Path, stage: str) -> None:
    """Lets a stage be under way again: what is in results.json is done. Its metrics stay until there are new ones."""
    path = directory / "results.json"
    if path.is_file():
        results = read_json(path)
        if not isinstance(results.get("stages"), dict):
            raise RecrunError(f"{path} is damaged: stages is no mapping")
        results["stages"].pop(stage, None)
        write_json(path, results)


def read(directory: Path) -> dict[str, Any]:
    """The config of a run as it is written."""
    return raw(directory)


def write(directory: Path, config: dict[str, Any]) -> None:
    """Writes the config of a run whole or not at all."""
    from omegaconf import OmegaConf

    write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
