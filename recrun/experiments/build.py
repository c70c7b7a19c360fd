"""The data set of a config: made of the options of several groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recrun.experiments.instantiate import instantiate


def build_dataset(config: Mapping[str, Any]) -> Any:
    """The data set, with the evaluator and, for event logs, the split and the loader that were chosen."""
    chosen = {name: instantiate(config[name]) for name in ("evaluator", "split", "loader") if config.get(name)}
    return instantiate(config["dataset"], **chosen)
