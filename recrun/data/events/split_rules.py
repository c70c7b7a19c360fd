"""Which events are trained on and which are held out: pure functions on integer arrays.

Most give the part of every event, TRAIN, VALID or TEST, int8 [N]: an event is never in two parts.
"""

from __future__ import annotations

import numpy as np

from recrun.data.events.log import EventLog
from recrun.data.types import DROPPED, TEST, TRAIN, VALID, Int8, Int32, Int64, Mask, Times
from recrun.errors import DataError

FEWEST_TO_LEAVE_OUT = 3  # leave_last_out: one for test, one for validation and one to learn from
DAY = 86_400.0


def random_split(unit: Int32, valid_fraction: float, test_fraction: float, rng: np.random.Generator) -> Int8:
    """Random events of each unit: floor(fraction * n) for validation and for test.

    A unit of 2 events or more has a test event, one of 3 or more a validation event too; each keeps a training event.
    """
    count = np.bincount(unit)
    test = np.where(count >= 2, np.maximum(_share(count, test_fraction), 1), 0)
    test = np.minimum(test, np.maximum(count - 1, 0))
    valid = np.where(count >= 3, np.maximum(_share(count, valid_fraction), 1), 0)
    valid = np.minimum(valid, np.maximum(count - test - 1, 0))
    return _by_rank(unit, _rank_within(unit, _shuffled(len(unit), rng)), test, valid)


def temporal_split(time: Times, valid_fraction: float, test_fraction: float) -> Int8:
    """Two cuts in time, the same for all units: the last `test_fraction` of all events, before them validation.

    Args:
        time: Times or ranks [N]; of equal ones the later event of the log is the later.
    """
    total = np.array([len(time)])
    test = int(_share(total, test_fraction)[0])
    held_out = test + int(_share(total, valid_fraction)[0])
    by_time = np.argsort(time, kind="stable")
    part = np.full(len(time), TRAIN, np.int8)
    part[by_time[len(time) - held_out :]] = VALID
    part[by_time[len(time) - test :]] = TEST
    return part


def leave_last_out(lengths: Int64) -> Int8:
    """Each unit's last event is the test event, the one before the validation event; units below 3 events train only.

    Args:
        lengths: Events of each unit, which are one after another and in order, [U].
    """
    from_end = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(lengths.sum())
    enough = np.repeat(lengths >= FEWEST_TO_LEAVE_OUT, lengths)
    part = np.full(len(from_end), TRAIN, np.int8)
    part[enough & (from_end == 1)] = VALID
    part[enough & (from_end == 0)] = TEST
    return part


def hold_out_units(n_units: int, count: int, rng: np.random.Generator) -> Int8:
    """The role of each unit, int8 [n_units]: `count` are VALID, `count` are TEST, the others TRAIN."""
    role = np.full(n_units, TRAIN, np.int8)
    order = rng.permutation(n_units)
    role[order[n_units - 2 * count : n_units - count]] = VALID
    role[order[n_units - count :]] = TEST
    return role


def held_out_events(unit: Int32, fold_in: float, min_events: int, rng: np.random.Generator) -> Mask:
    """True for the targets of held-out units: floor((1 - fold_in) * n) events at random, but 1 of 2 or more.

    The other events are the model's input (fold-in). Units of fewer than `min_events` events, 5 in Liang et al. 2018
    and Lobel et al. 2020, are wholly fold-in.
    """
    if not len(unit):
        return np.zeros(0, np.bool_)
    count = np.bincount(unit)
    targets = np.maximum(_share(count, 1 - fold_in), count >= 2)
    targets[count < min_events] = 0
    rank = _rank_within(unit, _shuffled(len(unit), rng))
    return np.asarray(rank < targets[unit], np.bool_)


def random_share(unit: Int32, fraction: float, rng: np.random.Generator) -> Mask:
    """True for floor(fraction * n) events of each unit, at random, but 1 of 3 or more."""
    count = np.bincount(unit)
    drawn = np.maximum(_share(count, fraction), count >= 3) if fraction else np.zeros(len(count), np.int64)
    rank = _rank_within(unit, _shuffled(len(unit), rng))
    return np.asarray(rank < np.minimum(drawn, count - 1)[unit], np.bool_)


def hold_out_days(log: EventLog, part: Int8, code: int, days: float) -> Int8:
    """Holds out the training units that begin in the last `days` of the training events."""
    if not days:
        return part
    assert log.time is not None
    mine = _training(part)
    return _hold_out_from(log, part, mine, code, log.time[mine].max() - days * DAY)


def hold_out_latest(log: EventLog, part: Int8, code: int, fraction: float) -> Int8:
    """Holds out the latest `fraction` of the training units, by when they begin."""
    if not fraction:
        return part
    mine = _training(part)
    starts = np.sort(_starts(log)[np.unique(log.unit[mine])])
    held_out = int(_share(np.array([len(starts)]), fraction)[0])
    return _hold_out_from(log, part, mine, code, starts[len(starts) - held_out] if held_out else np.inf)


def _hold_out_from(log: EventLog, part: Int8, mine: Mask, code: int, cut: float) -> Int8:
    """Units that begin at the cut or after it get `code`; later events of other units are dropped."""
    clock = _clock(log)
    result = part.copy()
    result[mine & (clock >= cut)] = DROPPED
    result[mine & (_starts(log) >= cut)[log.unit]] = code
    return result


def _training(part: Int8) -> Mask:
    mine: Mask = part == TRAIN
    if not mine.any():
        raise DataError("there are no events to train on: hold out less, or give more data")
    return mine


def _starts(log: EventLog) -> Times:
    """When each unit begins, [U]."""
    return _clock(log)[log.offsets[:-1]]


def _clock(log: EventLog) -> Times:
    """When each event is: its time where the log has times, else its rank."""
    clock: Times | None = log.rank if log.time is None else log.time
    assert clock is not None
    return clock


def _shuffled(size: int, rng: np.random.Generator) -> Int32:
    return rng.permutation(np.arange(size, dtype=np.int32))


def _share(count: Int64, fraction: float) -> Int64:
    """floor(fraction * count), where 0.1 * 10 is 1 and (1 - 0.8) * 5 is 1 in spite of binary fractions."""
    return np.asarray(np.floor(count * fraction + 1e-9), np.int64)


def _rank_within(unit: Int32, position: Int32) -> Int32:
    """Each event's rank, from 0, among the events of its unit in the order of `position`, [N] distinct numbers >= 0."""
    key = unit.astype(np.int64) * (int(position.max()) + 1) + position  # sorts far faster than lexsort
    order = np.argsort(key, kind="stable")
    del key
    count = np.bincount(unit)
    within = np.arange(len(unit), dtype=np.int32)
    within -= np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    rank = np.empty(len(unit), np.int32)
    rank[order] = within
    return rank


def _by_rank(unit: Int32, rank: Int32, test: Int64 | Mask, valid: Int64 | Mask) -> Int8:
    """Of each unit's events the first `test` [U] are TEST, the next `valid` [U] VALID, the others TRAIN."""
    part = np.full(len(unit), TRAIN, np.int8)
    part[rank < (test.astype(np.int32) + valid)[unit]] = VALID
    part[rank < test.astype(np.int32)[unit]] = TEST
    return part
