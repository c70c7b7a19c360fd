"""Small event logs for tests: files, sources in memory, and the data sets of both."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from recrun.data.event_dataset import EventDataset
from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.io.raw_events import RawEvents
from recrun.data.loaders.user_rows import UserRows
from recrun.evaluation.full_ranking import FullRanking

SPLITS = {
    "random": splits.Random,
    "temporal": splits.Temporal,
    "leave_last_out": splits.LeaveLastOut,
    "strong": splits.Strong,
    "last_days": splits.LastDays,
    "fraction": splits.LatestFraction,
    "provided": splits.Provided,
}


class Memory:
    """A source of events that are given; what it is called in the cache never changes."""

    def __init__(self, raw: RawEvents) -> None:
        self.raw = raw

    def identity(self):
        return {"memory": len(self.raw)}

    def events(self):
        return self.raw


def raw_events(pairs, times=None, part=None, unit="user", items=None):
    """Events of (unit, item) pairs of text or of whole numbers, in that order; `items`: ids of a larger catalogue."""
    columns = [list(column) for column in zip(*pairs, strict=True)]
    names = [ids_of(column) for column in columns]
    if items is not None:
        names[1] = ids_of(items)
    numbers = [{name: number for number, name in enumerate(ids.tolist())} for ids in names]
    unit_index, item_index = (
        np.array([number[name] for name in column], np.int32) for number, column in zip(numbers, columns, strict=True)
    )
    return RawEvents(
        item_index,
        names[1],
        **{unit: unit_index, f"{unit}s": names[0]},
        time=None if times is None else np.asarray(times, np.float64),
        part=None if part is None else np.asarray(part, np.int8),
        counts={"rows_read": len(item_index)},
    )


def ids_of(values):
    """Distinct ids as the reader has them: sorted, int64 or objects."""
    distinct = sorted(set(values))
    return np.array(distinct, np.int64 if isinstance(distinct[0], int) else object)


def event_data(given, split="random", loader=None, evaluator=None, filters=None, **settings):
    """A data set of a file's path, of raw events, or of a source.

    Args:
        given: The events.
        split: A split, or the name of one with its defaults.
        loader: By default sets of items.
        evaluator: By default full ranking.
        filters: Keys of `Filters`.
        settings: Keys of `EventDataset`.
    """
    if isinstance(given, RawEvents):
        given = Memory(given)
    where = {"source": given} if hasattr(given, "events") else {"path": None if given is None else str(given)}
    return EventDataset(
        evaluator=evaluator or FullRanking(),
        split=SPLITS[split]() if isinstance(split, str) else split,
        loader=loader or UserRows(),
        filters=Filters(**filters or {}),
        **{**where, **settings},
    )


def ratings(n_users=12, n_items=15, n_rows=240, seed=0):
    """Rows (user id, item id, rating, time), some pairs repeated; ids are not their indices."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, n_users, n_rows) * 3 + 10, rng.integers(0, n_items, n_rows) * 2 + 5
    rows = zip(users, items, rng.integers(1, 6, n_rows), rng.integers(0, 40, n_rows), strict=True)
    return [tuple(map(int, row)) for row in rows]


def write_ratings(path, rows, columns=("user", "item", "rating", "time")):
    """Writes rows as CSV, the first columns of each; returns the path."""
    lines = [",".join(columns), *(",".join(map(str, row[: len(columns)])) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def lists(ragged):
    """Rows of a ragged array."""
    return [ragged.items[begin:end].tolist() for begin, end in pairwise(ragged.offsets)]


def batch_lists(batch, name):
    """Rows of a ragged field of a batch."""
    return [batch[name][begin:end].tolist() for begin, end in pairwise(batch[f"{name}_offsets"].tolist())]


def data_folder(name):
    """The folder of real data sets, if it holds this one; else the test is skipped."""
    folder = Path(os.environ.get("RECRUN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"no {name} in {folder}; RECRUN_DATA names the folder that holds it")
    return str(folder)
