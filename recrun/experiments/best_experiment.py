"""The best trial of a search as an experiment file, which chooses and sets what the trial did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recrun.config.compose import composer
from recrun.config.search_path import GROUPS
from recrun.errors import RecrunError
from recrun.experiments.run_record import write_text

FOLDER = "experiment"


def write_best(directory: Path, name: str, overrides: Sequence[str], about: str) -> None:
    """Writes experiment/NAME.yaml into a sweep's directory: `recrun --config-dir SWEEP experiment=NAME`.

    Args:
        directory: The sweep's.
        name: Of the experiment.
        overrides: The words of the best trial.
        about: A line on what it is.
    """
    path = directory / FOLDER / f"{name}.yaml"
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise RecrunError(f"{path.parent}: cannot be made ({error.strerror})") from None
    write_text(path, as_experiment(overrides, f"{about}\n# recrun --config-dir {directory} experiment={name}"))


def as_experiment(overrides: Sequence[str], about: str) -> str:
    """The text of an experiment file that does what some words of a command line do.

    What a YAML file cannot say, `~key`, is left to a comment.
    """
    from omegaconf import OmegaConf, open_dict

    with composer() as compose:
        parsed = compose.parse(overrides)
    choices: list[Any] = []
    values = OmegaConf.create()
    left = [str(word.input_line) for word in parsed if word.is_delete()]
    for word in parsed:
        key, value = word.key_or_group, word.value()
        if word.is_delete() or key == "output_dir":
            continue
        if key == "experiment":
            choices.insert(0, value)
        elif key in GROUPS and not isinstance(value, dict):
            choices.append({f"override /{key}": value})
        else:
            with open_dict(values):
                OmegaConf.update(values, key, value, merge=True, force_add=True)
    if left:
        about += f"\n# and type: {' '.join(left)}"
    defaults = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*choices, "_self_"]}))
    return f"# @package _global_\n# {about}\n{defaults}{OmegaConf.to_yaml(values) if values else ''}"
