"""Who is trained on and who is held out: pure functions on integer arrays.

Each gives the part of every row, TRAIN, VALID or TEST, int8 [R]. A row is never in two parts, every row is in one.
"""

from __future__ import annotations

import numpy as np

from recrun.data.rows import TEST, TRAIN, VALID, Float, Int8, Int32, Int64, Mask

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
    rank = _rank_within(user, rng.permutation(len(user)))
    return _by_rank(rank, test[user], valid[user])


def temporal_split(time: Float, valid_fraction: float, test_fraction: float) -> Int8:
    """Two cuts in time for everybody: the last `test_fraction` of all rows, before them the valid rows.

    Rows of the same time count as later when they come later in the input.
    """
    total = np.array(len(time))
    return _by_rank(_latest_first(time), _share(total, test_fraction), _share(total, valid_fraction))


def leave_last_out(user: Int32, time: Float) -> Int8:
    """Each user's last row is the test row, the one before the valid row; one row at least stays for training.

    A user with 2 rows has no valid row, one with 1 row is for training only. Ties as in `temporal_split`.
    """
    count = np.bincount(user)[user]
    rank = _rank_within(user, _latest_first(time))
    return _by_rank(rank, (count >= 2).astype(np.int64), (count >= 3).astype(np.int64))


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
    rank = _rank_within(user, rng.permutation(len(user)))
    return np.asarray(rank < targets[user], np.bool_)


def _share(count: Int64, fraction: float) -> Int64:
    """floor(fraction * count), where 0.1 * 10 is 1 and (1 - 0.8) * 5 is 1 in spite of binary fractions."""
    return np.asarray(np.floor(count * fraction + 1e-9), np.int64)


def _latest_first(time: Float) -> Int64:
    """Each row's place from the last in time, 0, to the first; of equal times the later row is the later."""
    place = np.empty(len(time), np.int64)
    place[np.argsort(time, kind="stable")] = np.arange(len(time))[::-1]
    return place


def _rank_within(user: Int32, place: Int64) -> Int64:
    """Each row's rank, from 0, among the rows of its user; `place` [R] is a permutation that orders all rows."""
    order = np.argsort(user.astype(np.int64) * len(user) + place, kind="stable")  # far faster than lexsort
    count = np.bincount(user)
    start = np.cumsum(count) - count
    rank = np.empty(len(user), np.int64)
    rank[order] = np.arange(len(user)) - np.repeat(start, count)
    return rank


def _by_rank(rank: Int64, test: Int64, valid: Int64) -> Int8:
    """The first `test` ranks are TEST, the next `valid` ranks VALID, the others TRAIN."""
    part = np.where(rank < test, TEST, np.where(rank < test + valid, VALID, TRAIN))
    return part.astype(np.int8)
