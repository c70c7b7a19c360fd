"""Training queries: every row, position and target, compared with plain Python."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from worlds.events import lists

from recrun.data.loaders.training_queries import (
    chance_in_window,
    interactions,
    learners,
    sequences,
    target_shares,
    training_targets,
)
from recrun.data.ragged import Ragged

N_ITEMS = 7
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=8), min_size=1, max_size=6)
SIZES = st.integers(1, 9)


def ragged(rows):
    flat = np.array([item for row in rows for item in row], np.int32)
    return Ragged.of_lengths(np.array([len(row) for row in rows], np.int64), flat)


def asked(queries):
    """(unit, history up to there, target) of every query."""
    rows = lists(Ragged(queries.offsets, queries.items))
    found = []
    for row, position, target in zip(queries.row, queries.position, queries.target, strict=True):
        at = position - queries.offsets[row] + 1
        found.append((int(queries.unit[row]), tuple(rows[row][:at]), int(target)))
    return found


@given(ROWS)
def test_every_event_after_the_first_is_a_target(rows):
    train = ragged(rows)
    positions, unit = training_targets(train)
    expected = [(at, item) for at, row in enumerate(rows) for item in row[1:]]
    assert list(zip(unit.tolist(), train.items[positions].tolist(), strict=True)) == expected
    assert learners(train).tolist() == [at for at, row in enumerate(rows) if len(row) > 1]


@given(ROWS, SIZES, st.integers(0, 99))
def test_a_row_per_interaction_asks_for_each_item_after_the_first(rows, size, seed):
    train = ragged(rows)
    epoch = interactions(train, np.random.default_rng(seed), size)
    found = asked(epoch.queries(slice(None), train))
    expected = [
        (unit, tuple(row[max(0, at - size) : at]), row[at])
        for unit, row in enumerate(rows)
        for at in range(1, len(row))
    ]
    assert sorted(found) == sorted(expected)
    assert epoch.query_units(slice(None)).tolist() == [unit for unit, *_ in found]


@given(ROWS, SIZES, st.integers(0, 99))
def test_a_row_per_sequence_asks_everywhere_in_a_window(rows, size, seed):
    train = ragged(rows)
    epoch = sequences(train, np.random.default_rng(seed), size)
    queries = epoch.queries(slice(None), train)
    assert sorted(queries.unit.tolist()) == [unit for unit, row in enumerate(rows) if len(row) > 1]
    found = asked(queries)
    assert epoch.query_units(slice(None)).tolist() == [unit for unit, *_ in found]
    for unit, window in zip(queries.unit.tolist(), lists(Ragged(queries.offsets, queries.items)), strict=True):
        row = rows[unit]
        assert len(window) == min(size, len(row) - 1)
        mine = [(history, target) for who, history, target in found if who == unit]
        windows = [row[begin : begin + len(window) + 1] for begin in range(len(row) - len(window))]
        assert mine in [[(tuple(some[:at]), some[at]) for at in range(1, len(some))] for some in windows]


@pytest.mark.parametrize("rows_of", [interactions, sequences])
@given(data=st.data(), rows=ROWS, size=SIZES)
def test_some_rows_have_their_own_queries_alone(rows_of, data, rows, size):
    train = ragged(rows)
    epoch = rows_of(train, np.random.default_rng(3), size)
    count = len(epoch.unit)
    begin = data.draw(st.integers(0, count))
    end = data.draw(st.integers(begin, count + 1))
    whole = epoch.queries(slice(None), train)
    mine = [query for query, row in zip(asked(whole), whole.row.tolist(), strict=True) if begin <= row < end]
    assert asked(epoch.queries(slice(begin, end), train)) == mine
    assert epoch.query_units(slice(begin, end)).tolist() == [unit for unit, *_ in mine]


def test_a_long_history_gives_windows_that_change():
    train = ragged([list(range(40)), list(range(39, -1, -1))])
    begins = set()
    for seed in range(30):
        queries = sequences(train, np.random.default_rng(seed), 5).queries(slice(None), train)
        for row in lists(Ragged(queries.offsets, queries.items)):
            assert len(row) == 5
            assert set(np.diff(row)) in ({1}, {-1})
            begins.add(row[0])
    assert len(begins) > 20


def test_the_chance_to_be_in_a_window_by_hand():
    """Windows of 3 among 4 positions begin at 0 or 1."""
    found = chance_in_window(np.array([0, 1, 2, 3, 0, 1]), np.array([4, 4, 4, 4, 2, 2]), 3)
    assert found.tolist() == [0.5, 1, 1, 0.5, 1, 1]


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_chance_to_be_in_a_window_is_a_count_of_windows(length, size):
    windows = [range(begin, begin + size) for begin in range(max(length - size, 0) + 1)]
    expected = [sum(at in window for window in windows) / len(windows) for at in range(length)]
    found = chance_in_window(np.arange(length), np.full(length, length), size)
    assert found == pytest.approx(expected)


@given(ROWS, SIZES)
def test_shares_of_targets_are_means_over_all_windows(rows, size):
    assume(any(len(row) > 1 for row in rows))
    train = ragged(rows)
    by_interaction, by_sequence = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
    for row in rows:
        for item in row[1:]:
            by_interaction[item] += 1
        length = min(size, len(row) - 1)
        begins = range(len(row) - length) if len(row) > 1 else []
        for begin in begins:
            for item in row[begin + 1 : begin + length + 1]:
                by_sequence[item] += 1 / len(begins)
    assert target_shares(train, "interactions", size, N_ITEMS) == pytest.approx(by_interaction / by_interaction.sum())
    assert target_shares(train, "sequences", size, N_ITEMS) == pytest.approx(by_sequence / by_sequence.sum())
