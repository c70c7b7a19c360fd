"""Interactions as parallel arrays, where they come from, and what is filtered out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from recrun.data.types import TEST as TEST
from recrun.data.types import TRAIN as TRAIN
from recrun.data.types import VALID as VALID
from recrun.data.types import Float as Float
from recrun.data.types import Ids as Ids
from recrun.data.types import Int8 as Int8
from recrun.data.types import Int32 as Int32
from recrun.data.types import Int64 as Int64
from recrun.data.types import Mask as Mask
from recrun.data.types import Times as Times
from recrun.errors import DataError

Duplicates: TypeAlias = Literal["first", "last", "error"]
Core: TypeAlias = Literal["fixed_point", "once"]


@dataclass(frozen=True)
class Rows:
    """R interactions.

    Attributes:
        user, item: Indices into `users` and `items`, int32 [R].
        users, items: The ids, sorted (integers by value, else as text).
        time: Seconds, float64 [R], as read; from `distinct` on their rank, int32 [R], where later rows of the input
            are later and no two are equal. None where the input has no time.
        part: TRAIN, VALID or TEST, int8 [R]; None where the input is not split yet.
        counts: What was read and dropped so far, for `Interactions.describe`.
    """

    user: Int32
    item: Int32
    users: Ids
    items: Ids
    time: Times | None = None
    part: Int8 | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: Mask | Int64) -> Rows:
        """The rows that a mask or positions select; the vocabularies stay."""
        return replace(
            self,
            user=self.user[which],
            item=self.item[which],
            time=None if self.time is None else self.time[which],
            part=None if self.part is None else self.part[which],
        )

    def counted(self, **counts: int) -> Rows:
        """The same rows with more counts."""
        return replace(self, counts={**self.counts, **counts})


class Source(Protocol):
    """Gives rows: files, or a generator (see recrun.data.events.synthetic)."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values that change whenever the rows would: content hashes, settings, seeds."""

    def rows(self, with_time: bool) -> Rows:
        """The rows; `time` is filled only if asked for."""


def distinct(rows: Rows, keep: Duplicates) -> Rows:
    """One row per (user, item) pair, its first or last one in input order; the result is sorted by user, then item.

    Raises:
        DataError: If `keep` is "error" and a pair occurs twice.
    """
    if rows.time is not None:
        rows = replace(rows, time=_rank(rows.time))
    pair = rows.user.astype(np.int64) * len(rows.items) + rows.item
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    same = pair[1:] == pair[:-1]
    duplicates = int(np.count_nonzero(same))
    if duplicates and keep == "error":
        user, item = divmod(int(pair[np.flatnonzero(same)[0]]), len(rows.items))
        raise DataError(
            f"user {rows.users[user]!s} has item {rows.items[item]!s} more than once ({duplicates} duplicate rows); "
            "dataset.duplicates=first or last keeps one of each"
        )
    end = np.ones(min(len(rows), 1), np.bool_)
    kept = np.concatenate([end, ~same] if keep == "first" else [~same, end])
    del pair, same
    return rows.take(order[kept]).counted(duplicates=duplicates)


def _rank(time: Times) -> Int32:
    rank = np.empty(len(time), np.int32)
    rank[np.argsort(time, kind="stable")] = np.arange(len(time), dtype=np.int32)
    return rank


@dataclass(frozen=True)
class Filters:
    """What is dropped before the split; the constructor arguments of `Interactions` of the same names."""

    duplicates: Duplicates = "first"
    min_user_count: int = 1
    min_item_count: int = 1
    core: Core = "fixed_point"

    def apply(self, rows: Rows) -> Rows:
        """Distinct rows, sorted by user, then item, of frequent users and items; both vocabularies without gaps.

        Raises:
            DataError: Nothing is left.
        """
        rows = distinct(rows, self.duplicates)
        rows = k_core(rows, self.min_user_count, self.min_item_count, self.core)
        require_rows(rows)
        return compact(rows)


def k_core(rows: Rows, min_user: int, min_item: int, mode: Core) -> Rows:
    """Keeps items with `min_item` rows and users with `min_user` rows: items first, then users.

    With "once" both are counted one time, as papers often do, so that items may end below their minimum;
    "fixed_point" repeats until both minima hold.
    """
    before = len(rows)
    while True:
        size = len(rows)
        rows = _frequent(rows, rows.item, len(rows.items), min_item)
        rows = _frequent(rows, rows.user, len(rows.users), min_user)
        if len(rows) == size or mode == "once":
            return rows.counted(below_min_count=before - len(rows))


def _frequent(rows: Rows, index: Int32, size: int, minimum: int) -> Rows:
    if minimum <= 1 or not len(rows):
        return rows
    kept = np.bincount(index, minlength=size) >= minimum
    return rows if kept.all() else rows.take(kept[index])


def compact(rows: Rows) -> Rows:
    """Drops ids without rows from both vocabularies and renumbers."""
    user, users = _renumber(rows.user, rows.users)
    item, items = _renumber(rows.item, rows.items)
    return replace(rows, user=user, item=item, users=users, items=items)


def _renumber(index: Int32, ids: Ids) -> tuple[Int32, Ids]:
    used = np.zeros(len(ids), np.bool_)
    used[index] = True
    if used.all():
        return index, ids
    number = (np.cumsum(used) - 1).astype(np.int32)
    return number[index], ids[used]


def require_rows(rows: Rows) -> None:
    """Raises DataError, saying what each filter dropped, if nothing is left."""
    if len(rows):
        return
    dropped = {
        "dataset.threshold": rows.counts.get("below_threshold", 0),
        "dataset.duplicates": rows.counts.get("duplicates", 0),
        "dataset.min_user_count and min_item_count": rows.counts.get("below_min_count", 0),
    }
    story = ", ".join(f"{key} dropped {count}" for key, count in dropped.items() if count)
    raise DataError(f"no interactions are left of {rows.counts.get('rows_read', 0)} rows: {story or 'none were read'}")
