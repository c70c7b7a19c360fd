"""Objects from config nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

from recrun.errors import RecrunError


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """What a config node with a `_target_` describes. Errors written for people pass through unwrapped.

    Raises:
        InstantiationException: Any other; one line, for only the first is shown, names the target and the cause.
    """
    try:
        if extra:  # handed over as they are: Hydra would turn data classes and arrays among them into its own kind
            return hydra.utils.instantiate(dict(node), _partial_=True, _convert_="all")(**extra)
        return hydra.utils.instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, RecrunError):
            raise error.__cause__ from None
        raise InstantiationException(" ".join(str(error).split())) from error.__cause__


def build_dataset(config: Mapping[str, Any]) -> Any:
    """The data set, with the evaluator and, for event logs, the split and the loader that were chosen."""
    chosen = {name: build(config[name]) for name in ("evaluator", "split", "loader") if config.get(name)}
    return build(config["dataset"], **chosen)
