"""Histories of new users as a table of events, with the columns that the run's data have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recrun.errors import ConfigError

BEGIN = 1_000_000_000  # seconds since 1970: a time that every reader takes for one


def history_table(histories: Any, dataset: Mapping[str, Any]) -> Any:
    """A table that `dataset.test_path` can name.

    Args:
        histories: A mapping of ids to items in order, a sequence of such lists (whose ids are their numbers, from 0),
            or a table, which is returned as it is.
        dataset: The run's section of that name.

    Raises:
        ConfigError: There is no history.
    """
    import numpy as np

    from recrun.data.io.frames import is_table

    if not isinstance(histories, Mapping):
        if is_table(histories):
            return histories
        histories = dict(enumerate(histories))
    rows = [(str(user), str(item)) for user, items in histories.items() for item in items]
    if not rows:
        raise ConfigError("histories: there is no item in them")
    ids, items = (np.array(cells, object) for cells in zip(*rows, strict=True))
    roles = {
        "session" if dataset.get("unit") == "session" else "user": ids,
        "item": items,
        "time": BEGIN + np.arange(len(rows)),
    }
    threshold = (dataset.get("filters") or {}).get("threshold")
    if threshold is not None:
        roles["rating"] = np.full(len(rows), float(threshold))
    columns = {dataset.get(f"{role}_column") or role: cells for role, cells in roles.items()}
    named = dataset.get("columns")
    if not named:
        return columns
    return {name: columns.get(name, np.full(len(rows), "", object)) for name in named}
