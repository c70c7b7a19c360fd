"""Who took which items, in order of time, and from where on that is held out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events import splits
from recrun.data.events.rows import (
    TEST,
    TRAIN,
    VALID,
    Ids,
    Int8,
    Int32,
    Int64,
    Mask,
    Rows,
    compact,
    distinct,
    k_core,
    require_rows,
)
from recrun.data.events.sequences import in_order
from recrun.data.ragged import spans
from recrun.errors import ConfigError, DataError
from recrun.types import Split

log = logging.getLogger("recrun")

HistorySplit: TypeAlias = Literal["leave_last_out", "temporal"]
Repeats: TypeAlias = Literal["first", "last", "error", "keep"]
FEWEST_TO_HOLD_OUT = 3  # leave_last_out: one for test, one for valid and one to learn from


@dataclass(frozen=True)
class Histories:
    """The items of U users, one user after another, each in order of time: first train, then valid, then test.

    Attributes:
        users, items: Ids by index.
        offsets: int64 [U + 1], where each user's items begin and end.
        item: int32 [N].
        trained, validated: int64 [U], where each user's training part and valid part end.
        counts: What was read and dropped.
    """

    users: Ids
    items: Ids
    offsets: Int64
    item: Int32
    trained: Int64
    validated: Int64
    counts: Mapping[str, int]

    def fingerprint(self) -> str:
        """sha256 over vocabularies, histories and cuts."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            digest.update("\n".join(ids.astype(str)).encode() + b"\0")
        for array in (self.offsets, self.item, self.trained, self.validated):
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def training(self) -> tuple[Int64, Int64]:
        """User and item of every training event, [n] each."""
        lengths = self.trained - self.offsets[:-1]
        place, _ = spans(self.offsets[:-1], self.trained)
        return np.repeat(np.arange(len(lengths)), lengths), self.item[place].astype(np.int64)

    def known(self) -> Mask:
        """Whether training holds an item, [items]."""
        known = np.zeros(len(self.items), np.bool_)
        known[self.training()[1]] = True
        return known

    def held_out(self, split: Split) -> tuple[Int64, Int64]:
        """Where each user's held-out events of a split begin and end; what is before them is the model's input."""
        return (self.trained, self.validated) if split == "valid" else (self.validated, self.offsets[1:])

    def on_items(self, items: Ids) -> Histories:
        """The same with a given catalogue, in its order; events of other items are dropped and counted.

        Raises:
            DataError: Nothing is left to judge.
        """
        number = {name: index for index, name in enumerate(items.tolist())}
        index = np.array([number.get(name, -1) for name in self.items.astype(str).tolist()], np.int32)
        item = index[self.item]
        kept = np.concatenate([[0], np.cumsum(item >= 0)])
        strange = self.items[index < 0].astype(str)
        counts = {**self.counts, "unknown_items": len(strange), "events_of_unknown_items": len(item) - int(kept[-1])}
        cuts = (kept[bounds] for bounds in (self.offsets, self.trained, self.validated))
        offsets, trained, validated = cuts
        made = replace(
            self,
            items=items,
            offsets=offsets,
            item=item[item >= 0],
            trained=trained,
            validated=validated,
            counts=counts,
        )
        some = ", ".join(strange[:3])
        if not len(made.judged("valid")) and not len(made.judged("test")):
            raise DataError(f"nobody can be judged: {len(strange)} of {len(index)} items are unknown, such as {some}")
        if len(strange):
            left_out = counts["events_of_unknown_items"]
            log.warning("%d items are unknown, such as %s; their %d events are left out", len(strange), some, left_out)
        return made

    def judged(self, split: Split) -> Int64:
        """Users with an input and held-out events, ascending: only they can be judged."""
        begin, end = self.held_out(split)
        return np.flatnonzero((begin > self.offsets[:-1]) & (end > begin))


@dataclass(frozen=True)
class HistorySettings:
    """How histories are made of rows; the constructor arguments of `Retrieval` of the same names."""

    duplicates: Repeats = "first"
    min_user_count: int = 1
    min_item_count: int = 1
    split: HistorySplit = "leave_last_out"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1

    def of(self, rows: Rows, items: Ids | None = None) -> Histories:
        """Filters, orders and splits; of `items` alone, and to judge, where they are given.

        Raises:
            DataError: Nothing is left, there is no time, or nobody can be judged or learned from.
            ConfigError: The fractions leave nothing.
        """
        if self.valid_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"dataset.valid_fraction={self.valid_fraction} and dataset.test_fraction={self.test_fraction} leave "
                "nothing to train on; their sum must be below 1"
            )
        if rows.time is None:
            raise DataError("histories need the time of each interaction, and the data have none")
        rows = rows if self.duplicates == "keep" else distinct(rows, self.duplicates)
        rows = k_core(rows, self.min_user_count, self.min_item_count, "fixed_point")
        require_rows(rows)
        rows = in_order(compact(rows))
        count = np.bincount(rows.user)
        begin = np.cumsum(count) - count
        part = self._part(rows, count)
        trained = begin + np.bincount(rows.user[part == TRAIN], minlength=len(count))
        validated = trained + np.bincount(rows.user[part == VALID], minlength=len(count))
        short = int(np.count_nonzero(count < FEWEST_TO_HOLD_OUT))
        counts = {**rows.counts, f"users_below_{FEWEST_TO_HOLD_OUT}": short}
        offsets = np.append(begin, len(rows)).astype(np.int64)
        made = Histories(rows.users, rows.items, offsets, rows.item, trained, validated, counts)
        if items is not None:
            return made.on_items(items)
        _refuse_useless(made)
        return made

    def _part(self, rows: Rows, count: Int64) -> Int8:
        """The part of each row; a user's rows of one part are side by side."""
        if self.split == "temporal":
            assert rows.time is not None
            return splits.temporal_split(rows.time, self.valid_fraction, self.test_fraction)
        from_end = np.cumsum(count)[rows.user] - 1 - np.arange(len(rows))
        enough = count[rows.user] >= FEWEST_TO_HOLD_OUT
        part = np.full(len(rows), TRAIN, np.int8)
        part[enough & (from_end == 1)] = VALID
        part[enough & (from_end == 0)] = TEST
        return part


def _refuse_useless(made: Histories) -> None:
    if not (made.trained - made.offsets[:-1] > 1).any():
        raise DataError(
            f"there is nothing to train on: none of {len(made.users)} users has two interactions in the training part; "
            "give more data, or hold out less"
        )
    parts: tuple[Split, Split] = ("valid", "test")
    for split in parts:
        if not len(made.judged(split)):
            raise DataError(
                f"nobody can be judged on the {split} part: none of {len(made.users)} users has interactions in it and "
                "before it; leave_last_out needs 3 of a user"
            )
