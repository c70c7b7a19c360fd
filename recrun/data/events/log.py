"""The event log: who took what, in which order; one form for ratings, histories and sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from recrun.data.io.raw_events import RawEvents
from recrun.data.ragged import offsets_of
from recrun.data.types import Ids, Int8, Int32, Int64, Mask, Times
from recrun.errors import ConfigError, DataError

UnitName: TypeAlias = Literal["user", "session"]
Order: TypeAlias = Literal["time", "file", "none"]


@dataclass(frozen=True)
class EventLog:
    """N events of U units (users, or sessions), sorted by unit, and within a unit in order.

    Attributes:
        unit, item: Indices into `units` and `items`, int32 [N].
        units, items: Ids. A session that occurs in two files of a split is two units.
        rank: Of each event among all, in order of time or of the file, distinct, int32 [N]; None without an order:
            then the events of a unit are sorted by item.
        time: Seconds, float64 [N]; None where the data have none.
        part: TRAIN, VALID or TEST, int8 [N]; None where the data are not split.
        owners: Id of each unit's user where units are sessions and the data name users too, [U].
        counts: What was read and dropped so far.
    """

    unit: Int32
    item: Int32
    units: Ids
    items: Ids
    rank: Int32 | None = None
    time: Times | None = None
    part: Int8 | None = None
    owners: Ids | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    @cached_property
    def lengths(self) -> Int64:
        """Events per unit, [U]."""
        return np.bincount(self.unit, minlength=len(self.units))

    @cached_property
    def offsets(self) -> Int64:
        """Where each unit's events begin and end, int64 [U + 1]."""
        return offsets_of(self.lengths)

    def take(self, which: Mask | Int64) -> EventLog:
        """The events that a mask or positions select; the vocabularies stay."""
        return replace(
            self,
            unit=self.unit[which],
            item=self.item[which],
            rank=_take(self.rank, which),
            time=_take(self.time, which),
            part=_take(self.part, which),
        )

    def counted(self, **counts: int) -> EventLog:
        """The same events with more counts."""
        return replace(self, counts={**self.counts, **counts})

    def canonical(self) -> Int64 | None:
        """Positions of the events sorted by unit, then item, then order; None if they are in that order already.

        Splits that draw at random draw along it, so that the draw depends neither on times nor on the file's order.
        """
        if self.rank is None:
            return None
        return np.argsort(self.unit.astype(np.int64) * len(self.items) + self.item, kind="stable")

    def with_fingerprint(self, sha256: str) -> EventLog:
        """The same log, whose fingerprint is known already: hashing a long log takes as long as reading it."""
        known = replace(self)
        vars(known)["_sha256"] = sha256
        return known

    def fingerprint(self) -> str:
        """sha256 of ids, events and order: equal logs have equal ones, wherever they were read from."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for ids in (self.units, self.items):
            digest.update("\0".join(map(str, ids.tolist())).encode() + b"\n")
        for array in (self.unit, self.item, self.rank):
            if array is not None:
                digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def _take(array: Any, which: Mask | Int64) -> Any:
    return None if array is None else array[which]


def chosen_unit(raw: RawEvents, unit: UnitName | None) -> UnitName:
    """The unit that was asked for; by default the session where the data have one, else the user.

    Raises:
        ConfigError: The data have no column of the unit.
    """
    there: dict[UnitName, Any] = {"session": raw.session, "user": raw.user}
    if unit is None:
        return "session" if raw.session is not None else "user"
    if there[unit] is None:
        other = next(name for name, column in there.items() if column is not None)
        raise ConfigError(f"dataset.unit={unit}: the data have no {unit} column; use dataset.unit={other}")
    return unit


def chosen_order(raw: RawEvents, order: Order | None) -> Order:
    """The order that was asked for; by default that of time where the data have times, else none.

    Raises:
        DataError: An order of time is asked for, and the data have no times.
    """
    if order == "time" and raw.time is None:
        raise DataError(
            "dataset.order=time needs the time of each event, and the data have no time column; "
            "use dataset.order=file if the rows are in order, or dataset.order=none"
        )
    return order or ("none" if raw.time is None else "time")


def unit_columns(raw: RawEvents, unit: UnitName) -> tuple[Int32, Ids, Ids | None]:
    """Unit of each event [R], ids of the units [U], and ids of their users where units are sessions with users.

    A session id that occurs in two files of a split is two sessions.
    """
    if unit == "user":
        assert raw.user is not None
        assert raw.users is not None
        return raw.user, raw.users, None
    assert raw.session is not None
    assert raw.sessions is not None
    session, ids = raw.session, raw.sessions
    if raw.part is not None:
        key = raw.part.astype(np.int64) * len(ids) + session
        distinct, index = np.unique(key, return_inverse=True)
        session, ids = index.astype(np.int32), ids[distinct % len(ids)]
    if raw.user is None or raw.users is None:
        return session, ids, None
    first = np.zeros(len(ids), np.int64)
    first[session[::-1]] = np.arange(len(session))[::-1]
    return session, ids, raw.users[raw.user[first]]


def event_ranks(raw: RawEvents, order: Order) -> Int32 | None:
    """Rank of each event among all, int32 [R]: by time, equal times in the order of the file; None without an order."""
    if order == "none":
        return None
    if order == "file":
        return np.arange(len(raw), dtype=np.int32)
    assert raw.time is not None
    rank = np.empty(len(raw), np.int32)
    rank[np.argsort(raw.time, kind="stable")] = np.arange(len(raw), dtype=np.int32)
    return rank


def in_order(log: EventLog) -> EventLog:
    """The events sorted by unit, then by rank, or by item where there is no order."""
    key = log.unit.astype(np.int64)
    key *= len(log.items) if log.rank is None else int(log.rank.max(initial=0)) + 1
    key += log.item if log.rank is None else log.rank
    return log if (np.diff(key) >= 0).all() else log.take(np.argsort(key, kind="stable"))


def compact(log: EventLog) -> EventLog:
    """Drops ids without events from both vocabularies, renumbers, and ranks without gaps."""
    used, unit = _renumbered(log.unit, len(log.units))
    kept, item = _renumbered(log.item, len(log.items))
    owners = None if log.owners is None else log.owners[used]
    log = replace(log, unit=unit, item=item, units=log.units[used], items=log.items[kept], owners=owners)
    if log.rank is None:
        return log
    present = np.zeros(int(log.rank.max(initial=-1)) + 1, np.bool_)
    present[log.rank] = True
    return log if present.all() else replace(log, rank=(np.cumsum(present, dtype=np.int32) - 1)[log.rank])


def _renumbered(index: Int32, size: int) -> tuple[Mask, Int32]:
    used = np.zeros(size, np.bool_)
    used[index] = True
    return used, index if used.all() else (np.cumsum(used, dtype=np.int32) - 1)[index]


def units_with_ties(log: EventLog) -> int:
    """Units that have two events of equal time: the file's order decides between them."""
    if log.time is None or log.rank is None or len(log) < 2:
        return 0
    tied = (log.time[1:] == log.time[:-1]) & (log.unit[1:] == log.unit[:-1]) & (log.item[1:] != log.item[:-1])
    return len(np.unique(log.unit[1:][tied]))
