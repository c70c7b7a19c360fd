"""Sessions as the files of a split: what is trained on, what validation shows and what it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recrun.estimators.interactions import Events


def data_overrides(folder: Path, train: Events) -> dict[str, Any]:
    """How the files of `write` are read."""
    return {
        "dataset": "interactions",
        "dataset.path": folder,
        "dataset.filters.repeats": "keep",
        "dataset.order": "file" if train.time is None else "time",
        "dataset.time_unit": "s",
        "split": "provided",
        "split.catalogue": "train",
    }


def plain(ids: np.ndarray) -> np.ndarray:
    """Ids of a DataFrame as an array without objects."""
    return ids.astype(str) if ids.dtype.kind == "O" else ids


def renumbered(events: Events, together: list[Events]) -> Events:
    """Events of a DataFrame with users numbered as in several of them together."""
    if events.users is None:
        return events
    everyone = np.unique(np.concatenate([other.users for other in together if other.users is not None]))
    number = np.searchsorted(everyone, events.users)
    return Events(
        number[events.user], events.item, events.time, (len(everyone), events.shape[1]), everyone, events.items
    )


def write(path: Path, events: Events, first_user: int) -> None:
    """A part of the data as a file; its users begin at a number, so that those of validation are others than X's."""
    arrays: dict[str, Any] = {"user": events.user + first_user, "item": events.item}
    if events.time is not None:
        arrays["time"] = events.time
    np.savez(path, **arrays)


def batches(users: np.ndarray, size: int) -> list[np.ndarray]:
    """Some users at a time."""
    return [users[at : at + size] for at in range(0, len(users), size)]
