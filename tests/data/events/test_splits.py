"""Splits: complete, disjoint, of the promised sizes, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.data.events import splits
from recrun.data.events.rows import TEST, TRAIN, VALID

users_of_rows = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda u: np.sort(np.array(u, np.int32)))
seeds = st.integers(0, 2**32 - 1)
fractions = st.tuples(st.floats(0.01, 0.95), st.floats(0.01, 0.95)).filter(lambda pair: sum(pair) < 0.999)


@given(users_of_rows, fractions, seeds)
def test_random_gives_each_user_his_shares_and_a_training_row(user, fractions, seed):
    valid, test = fractions
    part = splits.random_split(user, valid, test, np.random.default_rng(seed))
    assert part.shape == user.shape
    for u in np.unique(user):
        n = np.count_nonzero(user == u)
        sizes = np.bincount(part[user == u], minlength=3)
        assert sizes[TRAIN] >= 1
        assert (sizes[TEST] >= 1) == (n >= 2)
        if n * min(fractions) >= 1:
            assert sizes[TEST] == np.floor(n * test + 1e-9)
            assert sizes[VALID] == np.floor(n * valid + 1e-9)
        elif max(fractions) < 0.5:
            assert (sizes[VALID] >= 1) == (n >= 3)


@given(users_of_rows, seeds)
def test_random_is_decided_by_the_seed(user, seed):
    first, again = (splits.random_split(user, 0.2, 0.2, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_random_draws_every_row_alike():
    user = np.zeros(10, np.int32)
    rng = np.random.default_rng(0)
    tests = sum((splits.random_split(user, 0.1, 0.3, rng) == TEST).astype(int) for _ in range(2000))
    assert tests.sum() == 6000
    assert abs(tests - 600).max() < 100  # five standard deviations


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (9, [7, 1, 1]), (10, [8, 1, 1]), (20, [16, 2, 2])],
)
def test_random_sizes_by_hand(n, expected):
    part = splits.random_split(np.zeros(n, np.int32), 0.1, 0.1, np.random.default_rng(0))
    assert np.bincount(part, minlength=3).tolist() == expected


def test_temporal_cuts_all_rows_in_time_and_ties_in_input_order():
    time = np.array([5.0, 1, 9, 9, 2, 3, 9, 4, 0, 6])
    part = splits.temporal_split(time, 0.2, 0.2)
    assert np.flatnonzero(part == TEST).tolist() == [3, 6]  # the later two of the three nines
    assert np.flatnonzero(part == VALID).tolist() == [2, 9]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), fractions)
def test_temporal_is_complete_and_in_order(times, fractions):
    time = np.array(times, float)
    part = splits.temporal_split(time, *fractions)
    assert np.bincount(part, minlength=3)[TEST] == np.floor(len(time) * fractions[1] + 1e-9)
    for earlier, later in ((TRAIN, VALID), (VALID, TEST), (TRAIN, TEST)):
        if (part == earlier).any() and (part == later).any():
            assert time[part == earlier].max() <= time[part == later].min()


@given(users_of_rows, st.data())
def test_leave_last_out_equals_a_loop(user, data):
    time = np.array(data.draw(st.permutations(range(0, 2 * len(user), 2))), np.int32)
    part = splits.leave_last_out(user, time)
    expected = np.zeros(len(user), np.int8)
    for u in np.unique(user):
        mine = sorted(np.flatnonzero(user == u), key=lambda row: time[row])
        if len(mine) >= 2:
            expected[mine[-1]] = TEST
        if len(mine) >= 3:
            expected[mine[-2]] = VALID
    np.testing.assert_array_equal(part, expected)


@given(st.integers(3, 50), st.data())
def test_hold_out_users_counts(n, data):
    count = data.draw(st.integers(1, (n - 1) // 2))
    role = splits.hold_out_users(n, count, np.random.default_rng(0))
    assert np.bincount(role, minlength=3).tolist() == [n - 2 * count, count, count]


@pytest.mark.parametrize(("n", "held_out"), [(1, 0), (4, 0), (5, 1), (9, 1), (10, 2), (100, 20)])
def test_fold_in_shows_four_fifths(n, held_out):
    target = splits.held_out_rows(np.full(n, 3, np.int32), 0.8, np.random.default_rng(0))
    assert np.count_nonzero(target) == held_out


def test_fold_in_of_nobody():
    assert len(splits.held_out_rows(np.zeros(0, np.int32), 0.8, np.random.default_rng(0))) == 0
