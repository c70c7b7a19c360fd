"""Ragged arrays against lists of lists."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds.events import lists

from recrun.data.ragged import Ragged, expand, joined, offsets_of, spans

N_ITEMS = 9
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=6), max_size=8)


def ragged(rows, dtype=np.int32):
    flat = np.array([item for row in rows for item in row], dtype)
    return Ragged.of_lengths(np.array([len(row) for row in rows], np.int64), flat)


@given(ROWS)
def test_rows_come_back_as_they_went_in(rows):
    made = ragged(rows)
    assert lists(made) == rows
    assert len(made) == len(rows)
    assert made.lengths().tolist() == [len(row) for row in rows]
    assert made.rows().tolist() == [at for at, row in enumerate(rows) for _ in row]
    assert lists(Ragged.of(made.rows(), made.items, len(rows))) == rows
    assert made.offsets.dtype == np.int64


@given(ROWS.filter(len), st.data())
def test_rows_are_taken_in_any_order_and_often(rows, data):
    index = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)), np.int64)
    expected = [rows[at] for at in index]
    made = ragged(rows)
    assert lists(made.take(index)) == expected
    items, offsets = made.gather(index)
    assert (items.dtype, offsets.dtype) == (np.int64, np.int64)
    assert lists(Ragged(offsets, items)) == expected
    positions, offsets = expand(made.offsets, index)
    assert lists(Ragged(offsets, made.items[positions])) == expected


@given(ROWS, st.data())
def test_some_entries_are_kept(rows, data):
    size = sum(map(len, rows))
    mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    rest = iter(mask)
    expected = [[item for item in row if next(rest)] for row in rows]
    assert lists(ragged(rows).keep(np.array(mask, bool))) == expected


@given(ROWS, st.integers(1, 7))
def test_the_last_entries_of_each_row(rows, size):
    assert lists(ragged(rows).last(size)) == [row[-size:] for row in rows]


@given(ROWS)
def test_sets_are_distinct_and_ascending(rows):
    found = ragged(rows).sets(N_ITEMS)
    assert lists(found) == [sorted(set(row)) for row in rows]
    assert found.items.dtype == np.int32


def test_keys_of_sets_do_not_overflow_32_bits():
    rows = [[]] * 49_999 + [[99_999, 0, 99_999]]
    assert lists(ragged(rows).sets(100_000))[-1] == [0, 99_999]


@given(st.lists(st.tuples(*[st.lists(st.integers(0, 8), max_size=4)] * 2), max_size=8))
def test_joined_rows_continue_each_other(pairs):
    first, second = (ragged([pair[at] for pair in pairs]) for at in (0, 1))
    assert lists(joined(first, second)) == [one + other for one, other in pairs]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8))
def test_spans_hold_every_position_between_their_ends(pairs):
    begin = np.array([at for at, _ in pairs], np.int64)
    length = np.array([count for _, count in pairs], np.int64)
    positions, offsets = spans(begin, begin + length)
    assert lists(Ragged(offsets, positions)) == [list(range(at, at + count)) for at, count in pairs]
    assert offsets.tolist() == offsets_of(length).tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_type_of_the_entries_stays(dtype):
    made = ragged([[1, 2], [], [0]], dtype)
    index = np.array([2, 0])
    for found in (made.take(index), made.last(1), made.keep(np.array([True, False, True])), joined(made, made)):
        assert found.items.dtype == dtype


def test_times_go_where_their_entries_go():
    rows = Ragged(np.array([0, 2, 2, 5]), np.array([7, 3, 9, 7, 1], np.int32), np.array([70.0, 30.0, 90.0, 71.0, 10.0]))
    assert rows.take(np.array([2, 0])).times.tolist() == [90, 71, 10, 70, 30]
    assert rows.keep(rows.items == 7).times.tolist() == [70, 71]
    assert rows.last(1).times.tolist() == [30, 10]
    other = rows.take(np.array([1, 2, 0]))
    assert joined(rows, other).times.tolist() == [70, 30, 90, 71, 10, 90, 71, 10, 70, 30]
    assert joined(rows, replace(other, times=None)).times is None
    assert rows.sets(10).times is None
