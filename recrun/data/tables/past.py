"""What went before a row: ids of earlier training rows, of the same user for example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recrun.data.histories import spans
from recrun.data.rows import TRAIN, Int8, Int32
from recrun.data.tables.store import Columns, Ragged


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
    """A history of every row.

    Args:
        history: Which one.
        rows: With codes; their `time` is the order, without one they are in order.
        part: Of each row.
        columns: Places in `sparse`; a column that is not there is the group.
        tasks: Places in `label`.
    """

    def __init__(
        self, history: History, rows: Columns, part: Int8, columns: Sequence[str], tasks: Sequence[str]
    ) -> None:
        def codes(name: str) -> Int32:
            return rows.flat["sparse"][:, columns.index(name)] if name in columns else rows.flat["group"]

        chosen = np.asarray(part == TRAIN)
        for task, value in ((history.where, 1), (history.unless, 0)):
            if task is not None:
                chosen &= rows.flat["label"][:, tasks.index(task)] == value
        time = rows.flat["time"] if "time" in rows.flat else np.arange(len(rows))
        rank = np.unique(time, return_inverse=True)[1].astype(np.int64)
        self.history, self.times = history, int(rank.max()) + 1
        self.key = codes(history.by) * np.int64(self.times) + rank
        taken = np.flatnonzero(chosen)
        taken = taken[np.argsort(self.key[taken], kind="stable")]
        self.before, self.codes = self.key[taken], codes(history.of)[taken]

    def between(self, begin: int, end: int) -> Ragged:
        """The histories of some rows, as codes."""
        key = self.key[begin:end]
        first, last = (np.searchsorted(self.before, bound) for bound in (key - key % self.times, key))
        place, offsets = spans(np.maximum(first, last - self.history.max_length), last)
        return offsets, self.codes[place]
