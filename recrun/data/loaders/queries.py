"""What training asks: of each row a history, and after which of its items the next one is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events.rows import Float, Int64
from recrun.data.loaders.user_histories import Histories
from recrun.data.ragged import spans

RowName: TypeAlias = Literal["interactions", "sequences"]


@dataclass(frozen=True)
class Asked:
    """Histories of R rows, and Q questions about them.

    Attributes:
        user: Of each row, int64 [R].
        items, offsets: The histories, int64 [N] and [R + 1].
        query: Places in `items` after which the next one is asked for, int64 [Q].
        target: The next ones, int64 [Q].
        row: Of each question, int64 [Q].
    """

    user: Int64
    items: Int64
    offsets: Int64
    query: Int64
    target: Int64
    row: Int64


@dataclass(frozen=True)
class Epoch:
    """The rows of an epoch in their order: of each the user and which of all items, `begin` to `end`, it reads.

    With `everywhere` a row asks after each of its items, else after the last one alone.
    """

    user: Int64
    begin: Int64
    end: Int64
    everywhere: bool

    def askers(self, which: slice) -> Int64:
        """The user of each question of some of the rows, int64 [Q]."""
        user = self.user[which]
        return np.repeat(user, self.end[which] - self.begin[which]) if self.everywhere else user

    def part(self, which: slice, made: Histories) -> Asked:
        """Some of the rows."""
        place, offsets = spans(self.begin[which], self.end[which])
        rows = np.arange(len(offsets) - 1)
        query = np.arange(len(place)) if self.everywhere else offsets[1:] - 1
        row = np.repeat(rows, np.diff(offsets)) if self.everywhere else rows
        target = made.item[place[query] + 1].astype(np.int64)
        return Asked(self.user[which], made.item[place].astype(np.int64), offsets, query, target, row)


def targets(made: Histories) -> tuple[Int64, Int64]:
    """Places and users of the training events that have one before them."""
    begin = np.minimum(made.offsets[:-1] + 1, made.trained)
    place, offsets = spans(begin, made.trained)
    return place, np.repeat(np.arange(len(made.users)), np.diff(offsets))


def learners(made: Histories) -> Int64:
    """Users with two training events at least."""
    return np.flatnonzero(made.trained - made.offsets[:-1] > 1)


def shares(made: Histories, rows: RowName, his_size: int) -> Float:
    """Of all that an epoch asks for on average, the share that each item is, float64 [items]."""
    place, user = targets(made)
    chance = np.ones(len(place))
    if rows == "sequences":
        asked = made.trained[user] - made.offsets[user] - 1
        chance = in_window(place - made.offsets[user] - 1, asked, his_size)
    count = np.bincount(made.item[place], weights=chance, minlength=len(made.items))
    return np.asarray(count / count.sum(), np.float64)


def in_window(at: Int64, length: Int64, size: int) -> Float:
    """The chance of place `at` of `length` to be in a window of `size`, each window being as likely, float64 [n]."""
    last = np.maximum(length - size, 0)  # where the last window begins
    windows = np.minimum(at, last) - np.maximum(at - size + 1, 0) + 1
    return np.asarray(windows / (last + 1), np.float64)


def interactions(made: Histories, rng: np.random.Generator, his_size: int) -> Epoch:
    """A row per training event that has one before it, all shuffled."""
    place, user = targets(made)
    order = rng.permutation(len(place))
    place, user = place[order], user[order]
    return Epoch(user, np.maximum(made.offsets[user], place - his_size), place, everywhere=False)


def sequences(made: Histories, rng: np.random.Generator, his_size: int) -> Epoch:
    """A row per user, shuffled; of a history that is too long a window, anywhere."""
    user = rng.permutation(learners(made))
    first, end = made.offsets[user], made.trained[user] - 1
    spare = np.maximum(end - first - his_size, 0)
    begin = first + rng.integers(0, spare + 1)
    return Epoch(user, begin, np.minimum(begin + his_size, end), everywhere=True)
