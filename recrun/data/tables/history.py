"""What went before a row: ids of earlier training rows, of the same user for example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recrun.data.ragged import spans
from recrun.data.tables.column_store import ColumnStore, Ragged
from recrun.data.types import TRAIN, Int8, Int32, Int64


@dataclass(frozen=True)
class History:
    """A sequence that is made: column `of` of the training rows before a row that have its value of `by`.

    Only rows with label 1 of the task `where`, and 0 of the task `unless`, are taken; of more than `max_length` the
    last. Rows of the same time are not before each other, and held-out rows are in nobody's past.
    """

    name: str
    of: str
    by: str
    where: str | None = None
    unless: str | None = None
    max_length: int = 50


class Past:
    """A history of every row. Holds 20 bytes for each, and takes 35 while it is made.

    Args:
        history: Which one.
        rows: With codes; their `time` is the order, without one they are in order.
        part: Of each row.
        columns: Indices in `sparse`; a column that is not there is the group.
        tasks: Indices in `label`.
    """

    def __init__(
        self, history: History, rows: ColumnStore, part: Int8, columns: Sequence[str], tasks: Sequence[str]
    ) -> None:
        def codes(name: str) -> Int32:
            return rows.flat["sparse"][:, columns.index(name)] if name in columns else rows.flat["group"]

        chosen = np.asarray(part == TRAIN)
        for task, value in ((history.where, 1), (history.unless, 0)):
            if task is not None:
                chosen &= rows.flat["label"][:, tasks.index(task)] == value
        key = time_ranks(rows)
        self.history, self.times = history, int(key.max()) + 1
        key += codes(history.by) * np.int64(self.times)
        self.key = key
        taken = np.flatnonzero(chosen)
        taken = taken[np.argsort(self.key[taken], kind="stable")]
        self.before, self.codes = self.key[taken], codes(history.of)[taken]

    def between(self, begin: int, end: int) -> Ragged:
        """The histories of some rows, as codes."""
        key = self.key[begin:end]
        first, last = (np.searchsorted(self.before, bound) for bound in (key - key % self.times, key))
        positions, offsets = spans(np.maximum(first, last - self.history.max_length), last)
        return offsets, self.codes[positions]


def time_ranks(rows: ColumnStore) -> Int64:
    """Which of the distinct times each row has, in order; rows without a time are in order."""
    if "time" not in rows.flat:
        return np.arange(len(rows))
    time = rows.flat["time"]
    order = np.argsort(time)
    later = np.diff(time[order], prepend=time[order[:1]]) > 0
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.cumsum(later)
    return rank
