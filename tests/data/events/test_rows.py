"""Filters: duplicates and minimum counts against brute force."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.data.events.rows import Filters, Rows, compact, distinct, k_core
from recrun.errors import DataError

pairs_strategy = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=80)


def rows_of(pairs, time=None):
    user, item = np.array(pairs, np.int32).T
    names = np.array([f"n{i}" for i in range(8)])
    return Rows(
        user, item, names, names, None if time is None else np.array(time, float), counts={"rows_read": len(user)}
    )


def pairs_of(rows):
    return list(zip(rows.users[rows.user].tolist(), rows.items[rows.item].tolist(), strict=True))


def names(pairs):
    return [(f"n{u}", f"n{i}") for u, i in pairs]


@given(pairs_strategy)
def test_distinct_keeps_each_pair_once_in_order(pairs):
    rows = distinct(rows_of(pairs), "first")
    assert pairs_of(rows) == names(sorted(set(pairs)))
    assert rows.counts["duplicates"] == len(pairs) - len(set(pairs))


def test_distinct_keeps_the_first_or_the_last_time():
    pairs, time = [(1, 1), (0, 2), (1, 1)], [30, 20, 10]
    assert distinct(rows_of(pairs, time), "first").time.tolist() == [1, 2]  # ranks of 20 and 30
    assert distinct(rows_of(pairs, time), "last").time.tolist() == [1, 0]  # ranks of 20 and 10


def test_equal_times_are_ranked_in_input_order():
    assert distinct(rows_of([(0, 3), (0, 1), (0, 2)], [7, 7, 7]), "first").time.tolist() == [1, 2, 0]


def test_duplicates_can_be_refused():
    with pytest.raises(DataError, match=r"user n1 has item n2 more than once \(1 duplicate rows\).*dataset.duplicates"):
        distinct(rows_of([(1, 2), (0, 0), (1, 2)]), "error")


@given(pairs_strategy, st.integers(1, 4), st.integers(1, 4))
def test_core_fixed_point_equals_a_loop(pairs, min_user, min_item):
    left = set(pairs)
    while True:
        items = Counter(i for _, i in left)
        kept = {(u, i) for u, i in left if items[i] >= min_item}
        users = Counter(u for u, _ in kept)
        kept = {(u, i) for u, i in kept if users[u] >= min_user}
        if kept == left:
            break
        left = kept
    rows = k_core(distinct(rows_of(pairs), "first"), min_user, min_item, "fixed_point")
    assert pairs_of(rows) == names(sorted(left))


def test_core_once_filters_items_then_users():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (2, 4)]
    rows = k_core(distinct(rows_of(pairs), "first"), 2, 2, "once")
    assert pairs_of(rows) == names([(0, 0), (0, 1)])  # item 1 is left with one user
    assert rows.counts["below_min_count"] == 5
    assert len(k_core(distinct(rows_of(pairs), "first"), 2, 2, "fixed_point")) == 0


@given(pairs_strategy)
def test_compact_leaves_no_gap_and_no_change(pairs):
    rows = compact(rows_of(pairs))
    assert pairs_of(rows) == names(pairs)
    assert sorted(set(rows.user.tolist())) == list(range(len(rows.users)))
    assert sorted(set(rows.item.tolist())) == list(range(len(rows.items)))


def test_nothing_left_says_which_filter_took_how_many():
    rows = rows_of([(0, 0), (0, 0), (1, 1)]).counted(rows_read=5, below_threshold=2)
    with pytest.raises(DataError) as error:
        Filters(min_user_count=3).apply(rows)
    assert str(error.value) == (
        "no interactions are left of 5 rows: dataset.threshold dropped 2, dataset.duplicates dropped 1, "
        "dataset.min_user_count and min_item_count dropped 2"
    )
