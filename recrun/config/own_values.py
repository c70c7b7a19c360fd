"""Values that a YAML file sets for one option of a group, where another option was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.config.schema import signature
from recrun.config.search_path import chosen_in, options

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("split", "loader", "evaluator")  # that a data set's, model's or experiment's file chooses and sets keys of
FILES = ("experiment", "model", "dataset")  # those files, in the order in which they win


def keep(config: DictConfig, choices: Mapping[str, Any], chosen: Sequence[str], folders: Sequence[Path]) -> None:
    """Drops keys that a file sets for the option that it chose, where another one replaced it.

    `dataset=rsc15` chooses split=provided and sets `split.valid_days`; with split=random typed behind it that key
    says nothing. Keys that the option has too (split.catalogue) stay. What is typed is never dropped: it is set later.

    Args:
        config: What Hydra made of the choices of options; changed in place.
        choices: The chosen option of each group.
        chosen: The words that choose options.
        folders: The conf folders.
    """
    for group in GROUPS:
        node = config.get(group)
        if node is None or "_target_" not in node or not replaced(group, choices, chosen, folders):
            continue
        known = signature(str(node["_target_"]))
        for key in [] if known.is_open else [*node]:
            if key not in known.fields and not str(key).startswith("_"):
                del node[key]


def replaced(group: str, choices: Mapping[str, Any], chosen: Sequence[str], folders: Sequence[Path]) -> bool:
    """Whether an option of a group was typed, or chosen by one file over another one's choice."""
    if any(word.lstrip("+").partition("=")[0] == group for word in chosen):
        return True
    paths = (options(name, folders).get(str(choices.get(name))) for name in FILES)
    wanted = {found for path in paths if path is not None and (found := chosen_in(path, group)) is not None}
    return len(wanted) > 1
