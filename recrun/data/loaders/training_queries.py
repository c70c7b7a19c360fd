"""Training queries: a history per row, and the positions in it whose next item is the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.ragged import Ragged, spans
from recrun.data.types import Float, Int64, Times

RowName: TypeAlias = Literal["interactions", "sequences"]


@dataclass(frozen=True)
class Queries:
    """Histories of R rows, and Q queries about them.

    Attributes:
        unit: Of each row, int64 [R].
        items, offsets: The histories, int64 [N] and [R + 1].
        position: Positions in `items` whose next item is the target, int64 [Q].
        target: The next items, int64 [Q].
        row: Of each query, int64 [Q].
        times: Of each of `items`, seconds [N]; None where nobody wants them.
    """

    unit: Int64
    items: Int64
    offsets: Int64
    position: Int64
    target: Int64
    row: Int64
    times: Times | None = None


@dataclass(frozen=True)
class Epoch:
    """The rows of an epoch in their order: of each the unit and which training events, `begin` to `end`, it reads.

    With `everywhere` every item of a row has a query, else the last one alone.
    """

    unit: Int64
    begin: Int64
    end: Int64
    everywhere: bool

    def query_units(self, which: slice) -> Int64:
        """The unit of each query of some of the rows, int64 [Q]."""
        unit = self.unit[which]
        return np.repeat(unit, self.end[which] - self.begin[which]) if self.everywhere else unit

    def queries(self, which: slice, train: Ragged) -> Queries:
        """Those of some of the rows."""
        positions, offsets = spans(self.begin[which], self.end[which])
        rows = np.arange(len(offsets) - 1)
        query = np.arange(len(positions)) if self.everywhere else offsets[1:] - 1
        row = np.repeat(rows, np.diff(offsets)) if self.everywhere else rows
        target = train.items[positions[query] + 1].astype(np.int64)
        times = None if train.times is None else train.times[positions]
        return Queries(self.unit[which], train.items[positions].astype(np.int64), offsets, query, target, row, times)


def training_targets(train: Ragged) -> tuple[Int64, Int64]:
    """Positions and units of the training events that have one before them."""
    begin = np.minimum(train.offsets[:-1] + 1, train.offsets[1:])
    positions, offsets = spans(begin, train.offsets[1:])
    return positions, np.repeat(np.arange(len(train)), np.diff(offsets))


def learners(train: Ragged) -> Int64:
    """Units with two training events at least."""
    return np.flatnonzero(train.lengths() > 1)


def target_shares(train: Ragged, rows: RowName, his_size: int, n_items: int) -> Float:
    """The share of each item among the targets of an epoch, on average, float64 [n_items]."""
    positions, unit = training_targets(train)
    chance = np.ones(len(positions))
    if rows == "sequences":
        asked = train.lengths()[unit] - 1
        chance = chance_in_window(positions - train.offsets[unit] - 1, asked, his_size)
    count = np.bincount(train.items[positions], weights=chance, minlength=n_items)
    return np.asarray(count / count.sum(), np.float64)


def chance_in_window(at: Int64, length: Int64, size: int) -> Float:
    """The chance of position `at` of `length` to be in a window of `size`, all windows being equally likely, [n]."""
    last = np.maximum(length - size, 0)  # where the last window begins
    windows = np.minimum(at, last) - np.maximum(at - size + 1, 0) + 1
    return np.asarray(windows / (last + 1), np.float64)


def interactions(train: Ragged, rng: np.random.Generator, his_size: int) -> Epoch:
    """A row per training event that has one before it, all shuffled."""
    positions, unit = training_targets(train)
    order = rng.permutation(len(positions))
    positions, unit = positions[order], unit[order]
    return Epoch(unit, np.maximum(train.offsets[unit], positions - his_size), positions, everywhere=False)


def sequences(train: Ragged, rng: np.random.Generator, his_size: int) -> Epoch:
    """A row per unit, shuffled; of a history that is too long a window, anywhere."""
    unit = rng.permutation(learners(train))
    first, end = train.offsets[unit], train.offsets[unit + 1] - 1
    spare = np.maximum(end - first - his_size, 0)
    begin = first + rng.integers(0, spare + 1)
    return Epoch(unit, begin, np.minimum(begin + his_size, end), everywhere=True)
