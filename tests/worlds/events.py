"""Small event logs for tests: files, sources in memory, and the data sets of both."""

from __future__ import annotations

import numpy as np

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
    unit_index, item_index = (
        np.array([ids.tolist().index(name) for name in column], np.int32)
        for ids, column in zip(names, columns, strict=True)
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
