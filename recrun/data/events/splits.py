"""Who is trained on and who is held out: pure functions on integer arrays.

Each gives the part of every row, TRAIN, VALID or TEST, int8 [R]. A row is never in two parts, every row is in one.
"""

from __future__ import annotations

import numpy as np

from recrun.data.events.rows import TEST, TRAIN, VALID, Int8, Int32, Int64, Mask, Times

FEWEST_TO_HOLD_OUT = 5  # a held-out user with fewer rows is wholly fold-in (Liang et al. 2018, Lobel et al. 2020)


def random_split(user: Int32, valid_fraction: float, test_fraction: float, rng: np.random.Generator) -> Int8:
    """Random rows of each user: floor(fraction * n) for valid and for test.

    A user with 2 rows or more has a test row, one with 3 or more a valid row too; everybody keeps a training row.
    """
    count = np.bincount(user)
    test = np.where(count >= 2, np.maximum(_share(count, test_fraction), 1), 0)
    test = np.minimum(test, np.maximum(count - 1, 0))
    valid = np.where(count >= 3, np.maximum(_share(count, valid_fraction), 1), 0)
    valid = np.minimum(valid, np.maximum(count - test - 1, 0))
    return _by_rank(user, _rank_within(user, _shuffled(len(user), rng)), test, valid)


def temporal_split(time: Times, valid_fraction: float, test_fraction: float) -> Int8:
    """Two cuts in time for everybody: the last `test_fraction` of all rows, before them the valid rows.

    Args:
        time: Times or ranks [R]; of equal ones the later row is the later.
    """
    total = np.array([len(time)])
    test = int(_share(total, test_fraction)[0])
    held_out = test + int(_share(total, valid_fraction)[0])
    by_time = np.argsort(time, kind="stable")
    part = np.full(len(time), TRAIN, np.int8)
    part[by_time[len(time) - held_out :]] = VALID
    part[by_time[len(time) - test :]] = TEST
    return part


def leave_last_out(user: Int32, time: Times) -> Int8:
    """Each user's last row is the test row, the one before the valid row; one row at least stays for training.

    A user with 2 rows has no valid row, one with 1 row is for training only.

    Args:
        time: Distinct ranks in time, int32 [R].
    """
    count = np.bincount(user)
    rank = _rank_within(user, time.max() - time)
    return _by_rank(user, rank, test=(count >= 2), valid=(count >= 3))


def hold_out_users(n_users: int, count: int, rng: np.random.Generator) -> Int8:
    """The role of each user, int8 [n_users]: `count` are VALID, `count` are TEST, the others TRAIN."""
    role = np.full(n_users, TRAIN, np.int8)
    order = rng.permutation(n_users)
    role[order[n_users - 2 * count : n_users - count]] = VALID
    role[order[n_users - count :]] = TEST
    return role


def held_out_rows(user: Int32, fold_in: float, rng: np.random.Generator) -> Mask:
    """True for the rows that a held-out user must be shown: floor((1 - fold_in) * n) of them at random.

    The other rows are the model's input (fold-in). Users with fewer than 5 rows are wholly fold-in.
    """
    if not len(user):
        return np.zeros(0, np.bool_)
    count = np.bincount(user)
    targets = np.where(count >= FEWEST_TO_HOLD_OUT, _share(count, 1 - fold_in), 0)
    rank = _rank_within(user, _shuffled(len(user), rng))
    return np.asarray(rank < targets[user], np.bool_)


def _shuffled(size: int, rng: np.random.Generator) -> Int32:
    return rng.permutation(np.arange(size, dtype=np.int32))


def _share(count: Int64, fraction: float) -> Int64:
    """floor(fraction * count), where 0.1 * 10 is 1 and (1 - 0.8) * 5 is 1 in spite of binary fractions."""
    return np.asarray(np.floor(count * fraction + 1e-9), np.int64)


def _rank_within(user: Int32, place: Int32) -> Int32:
    """Each row's rank, from 0, among the rows of its user in the order of `place`, [R] distinct numbers >= 0."""
    key = user.astype(np.int64) * (int(place.max()) + 1) + place  # sorts far faster than lexsort
    order = np.argsort(key, kind="stable")
    del key
    count = np.bincount(user)
    within = np.arange(len(user), dtype=np.int32)
    within -= np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    rank = np.empty(len(user), np.int32)
    rank[order] = within
    return rank


def _by_rank(user: Int32, rank: Int32, test: Int64 | Mask, valid: Int64 | Mask) -> Int8:
    """Of each user's rows the first `test` [U] are TEST, the next `valid` [U] VALID, the others TRAIN."""
    part = np.full(len(user), TRAIN, np.int8)
    part[rank < (test.astype(np.int32) + valid)[user]] = VALID
    part[rank < test.astype(np.int32)[user]] = TEST
    return part
