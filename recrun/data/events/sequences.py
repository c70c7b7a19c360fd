"""Event logs as sequences: ordered, filtered, and divided in time into what is learned and what is held out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events.rows import TEST, TRAIN, VALID, Float, Ids, Int8, Int32, Int64, Mask, Rows, compact, k_core
from recrun.data.ragged import expand
from recrun.errors import ConfigError, DataError

log = logging.getLogger("recrun")

SessionSplit: TypeAlias = Literal["last_days", "fraction", "leave_last_out", "provided"]
Repeats: TypeAlias = Literal["keep", "drop"]
DAY = 86_400.0
FEWEST_FOR_TEST = 3  # leave_last_out: events of a session, so that one transition at least stays for training
FEWEST_FOR_VALID = 4


@dataclass(frozen=True)
class Sequences:
    """S sessions, one after another, the events of each in order of time.

    Attributes:
        offsets: int64 [S + 1], where each session's events begin and end.
        items: int32 [E].
        wanted: bool [E], whether the event is to be predicted from those before it; never a session's first event.
        ids: Ids of the sessions [S].
    """

    offsets: Int64
    items: Int32
    wanted: Mask
    ids: Ids

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self) -> Int64:
        """Events per session, [S]."""
        return np.diff(self.offsets)

    def take(self, index: Int64) -> Sequences:
        """The sessions `index`, in that order."""
        place, offsets = expand(self.offsets, index)
        return Sequences(offsets, self.items[place], self.wanted[place], self.ids[index])

    def unit_ids(self) -> Ids:
        """An id of each wanted event: the session's id and which of its events it is, counted from 1, as "7:2"."""
        place = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths()) + 1
        session = np.repeat(self.ids.astype(str), self.lengths())[self.wanted]
        return np.char.add(np.char.add(session, ":"), place[self.wanted].astype(str)) if len(session) else session


@dataclass(frozen=True)
class SessionParts:
    """What `Sessions` serves: the sessions of each part over one catalogue.

    Attributes:
        items: Ids of the catalogue by index: the items of the training part.
        train: In order of their first event's time.
        valid, test: Held-out sessions with at least one wanted event.
        counts: What was read and dropped.
    """

    items: Ids
    train: Sequences
    valid: Sequences
    test: Sequences
    counts: Mapping[str, int]

    def fingerprint(self) -> str:
        """sha256 over the catalogue and the parts."""
        digest = hashlib.sha256("\n".join(self.items.astype(str)).encode())
        for part in (self.train, self.valid, self.test):
            for array in (part.offsets, part.items, part.wanted):
                digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class SessionFilters:
    """What is dropped before the split; the constructor arguments of `Sessions` of the same names."""

    duplicates: Repeats = "keep"
    immediate_repeats: Repeats = "keep"
    min_session_length: int = 2
    min_item_count: int = 1

    def apply(self, rows: Rows) -> Rows:
        """Rows in order (see `in_order`), both minima holding in the end.

        Raises:
            DataError: Nothing is left.
        """
        rows = in_order(rows)
        if self.duplicates == "drop":
            rows = _without(rows, _duplicates(rows), "duplicates")
        if self.immediate_repeats == "drop":
            rows = _without(rows, _follows_itself(rows), "immediate_repeats")
        left = k_core(rows, self.min_session_length, self.min_item_count, "fixed_point")
        if not len(left):
            counts = left.counts
            raise DataError(
                f"no sessions are left of {counts.get('rows_read', 0)} rows: dataset."
                f"min_session_length={self.min_session_length} and min_item_count={self.min_item_count} dropped "
                f"{counts['below_min_count']}"
            )
        return compact(left)


def in_order(rows: Rows) -> Rows:
    """Rows session by session, each in order of time; events of equal time stay in the order of the input.

    `user` then counts sessions; a session id that occurs in two parts is two sessions.

    Raises:
        DataError: The rows have no time.
    """
    if rows.time is None:
        raise DataError("sessions need the time of each event, and the data have none")
    part = np.zeros(len(rows), np.int8) if rows.part is None else rows.part
    session = part.astype(np.int64) * len(rows.users) + rows.user
    order = np.lexsort((rows.time, session))
    ordered, session = rows.take(order), session[order]
    begins = np.diff(session, prepend=-1) > 0
    index = (np.cumsum(begins) - 1).astype(np.int32)
    return replace(ordered, user=index, users=rows.users[ordered.user[begins]])


def _without(rows: Rows, dropped: Mask, name: str) -> Rows:
    return rows.take(~dropped).counted(**{name: int(np.count_nonzero(dropped))})


def _follows_itself(rows: Rows) -> Mask:
    """Events with the item of the event before them."""
    same = np.zeros(len(rows), np.bool_)
    same[1:] = (rows.user[1:] == rows.user[:-1]) & (rows.item[1:] == rows.item[:-1])
    return same


def _duplicates(rows: Rows) -> Mask:
    """Rows whose session, time and item have occurred before."""
    assert rows.time is not None
    order = np.lexsort((rows.item, rows.time, rows.user))
    same = np.zeros(len(rows), np.bool_)
    now, before = order[1:], order[:-1]
    equal = [column[now] == column[before] for column in (rows.user, rows.time, rows.item)]
    same[now] = np.logical_and.reduce(equal)
    return same


@dataclass(frozen=True)
class SessionSplits:
    """How sessions are divided; the constructor arguments of `Sessions` of the same names."""

    name: SessionSplit
    test_days: float
    valid_days: float
    test_fraction: float
    valid_fraction: float

    def divide(self, rows: Rows) -> SessionParts:
        """Splits rows that are in order.

        Raises:
            DataError: Nothing is left to train on, or to test with.
            ConfigError: The rows are not split already, as `provided` needs.
        """
        if self.name == "leave_last_out":
            return _parts(rows, *_leave_last_out(rows))
        if self.name == "provided":
            if rows.part is None:
                raise ConfigError("dataset.split=provided needs files that are split already, not dataset.source")
            part = rows.part.copy()
        else:
            part = _cut(rows, np.zeros(len(rows), np.int8), TEST, self.test_days, self.test_fraction, self.name)
        if not (part == VALID).any() and (self.valid_days or self.valid_fraction):
            name: SessionSplit = "last_days" if self.valid_days else "fraction"
            part = _cut(rows, part, VALID, self.valid_days, self.valid_fraction, name)
        return _parts(rows, part, _wanted(rows))


def _wanted(rows: Rows) -> Mask:
    """All events but the first of each session."""
    return np.asarray(np.diff(rows.user, prepend=-1) == 0, np.bool_)


def _cut(rows: Rows, part: Int8, code: int, days: float, fraction: float, name: SessionSplit) -> Int8:
    """Holds out the latest sessions of the training part: those that start in its last days, or the last share.

    Events of earlier sessions after the cut are in no part (-1): they would be known in training only afterwards.
    """
    assert rows.time is not None
    mine = part == TRAIN
    if not mine.any():
        raise DataError("there are no events to train on")
    if not (days if name == "last_days" else fraction):
        return part
    start = _starts(rows)
    if name == "last_days":
        cut = rows.time[mine].max() - days * DAY
    else:
        starts = np.sort(start[_session_of(rows, mine)])
        held_out = int(np.floor(len(starts) * fraction + 1e-9))
        cut = starts[len(starts) - held_out] if held_out else np.inf
    result = part.copy()
    result[mine & (rows.time >= cut)] = -1
    result[mine & (start >= cut)[rows.user]] = code
    return result


def _starts(rows: Rows) -> Float:
    """Time of each session's first event, [sessions]."""
    assert rows.time is not None
    return np.asarray(rows.time[_wanted(rows) == 0], np.float64)


def _session_of(rows: Rows, mine: Mask) -> Int64:
    return np.unique(rows.user[mine]).astype(np.int64)


def _leave_last_out(rows: Rows) -> tuple[Int8, Mask]:
    """Each session's last event is for test, the one before for valid; earlier ones are the input.

    A session of 3 events has no valid event, a shorter one is for training only.
    """
    length = np.bincount(rows.user)[rows.user]
    from_end = np.cumsum(np.bincount(rows.user))[rows.user] - 1 - np.arange(len(rows))
    part = np.full(len(rows), TRAIN, np.int8)
    part[(from_end == 1) & (length >= FEWEST_FOR_VALID)] = VALID
    part[(from_end == 0) & (length >= FEWEST_FOR_TEST)] = TEST
    return part, _wanted(rows)


def _parts(rows: Rows, part: Int8, wanted: Mask) -> SessionParts:
    """Sessions of each part over the catalogue of the training part."""
    assert rows.time is not None
    known = np.zeros(len(rows.items), np.bool_)
    known[rows.item[part == TRAIN]] = True
    number = (np.cumsum(known) - 1).astype(np.int32)
    train = _select(rows, part == TRAIN, wanted, number)
    starts = _starts(rows)[_session_of(rows, part == TRAIN)]
    train = train.take(np.argsort(starts, kind="stable"))
    valid, lost_valid = _held_out(rows, part, VALID, known, number)
    test, lost_test = _held_out(rows, part, TEST, known, number)
    if not (train.lengths() > 1).any():
        raise DataError(
            f"there is nothing to train on: of {len(train)} training sessions none has two events; "
            "lower the held-out share, or give more data"
        )
    counts = {**rows.counts, "unknown_items": lost_valid + lost_test, "between_parts": int((part < 0).sum())}
    return SessionParts(rows.items[known], train, valid, test, counts)


def _held_out(rows: Rows, part: Int8, code: int, known: Mask, number: Int32) -> tuple[Sequences, int]:
    """The sessions with events of a part, from their beginning to their last such event; unknown items left out.

    What precedes the part in a session (leave_last_out) is input only.
    """
    mine = part == code
    if not mine.any():
        return _select(rows, mine, mine, number), 0
    upto = np.zeros(len(rows.users), np.int64) - 1
    np.maximum.at(upto, rows.user[mine], np.flatnonzero(mine))
    kept = np.arange(len(rows)) <= upto[rows.user]
    lost = int(np.count_nonzero(kept & mine & ~known[rows.item]))
    kept &= known[rows.item]
    place = np.flatnonzero(kept)
    first = np.zeros(len(rows), np.bool_)
    first[place] = np.diff(rows.user[place], prepend=-1) > 0
    found = _select(rows, kept, mine & ~first, number)
    judged = np.add.reduceat(found.wanted, found.offsets[:-1]) if len(found) else np.zeros(0, np.int64)
    return found.take(np.flatnonzero(judged)), lost


def with_test(parts: SessionParts, rows: Rows) -> SessionParts:
    """The same parts with new sessions for test, those of one event included.

    Raises:
        DataError: No event is of a known item.
    """
    rows = in_order(rows)
    number = {name: index for index, name in enumerate(parts.items.astype(str).tolist())}
    known = np.array([number.get(name, -1) for name in rows.items.astype(str).tolist()], np.int32)
    kept = rows.take(known[rows.item] >= 0)
    ignored, lost = len(rows) - len(kept), len(rows.users) - len(np.unique(kept.user))
    if not len(kept):
        raise DataError(f"none of the {ignored} events is of an item that the model knows")
    if ignored:
        log.warning("%d events of unknown items are ignored; %d sessions have no other and are left out", ignored, lost)
    test = _select(kept, np.ones(len(kept), np.bool_), _wanted(kept), known)
    return replace(parts, test=test, counts={**parts.counts, "ignored_events": ignored, "ignored_sessions": lost})


def _select(rows: Rows, which: Mask, wanted: Mask, number: Int32) -> Sequences:
    """The sessions of some rows, without those that have none."""
    session = rows.user[which]
    lengths = np.bincount(session, minlength=len(rows.users))
    used = lengths > 0
    return Sequences(_offsets(lengths[used]), number[rows.item[which]], wanted[which], rows.users[used])


def _offsets(lengths: Int64) -> Int64:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
