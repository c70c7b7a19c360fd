"""Session-parallel schedules against a walk by the letter, and negatives against their distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.sessions import walk

from recrun.data.loaders.session_schedule import Negatives, Popularity, Schedule

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=30).filter(lambda lengths: max(lengths) > 1)


def scheduled(lengths, batch_size):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    schedule = Schedule.of(offsets, batch_size)
    session = np.repeat(np.arange(len(lengths)), lengths)
    steps = []
    for begin, end in zip(schedule.bounds[:-1], schedule.bounds[1:], strict=True):
        event = schedule.event[begin:end]
        which = session[event]
        assert (schedule.first[begin:end] == (event == offsets[which])).all()
        rows = zip(schedule.slot[begin:end], which, event - offsets[which], strict=True)
        steps.append([tuple(map(int, row)) for row in rows])
    return steps


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 40))
def test_a_schedule_is_the_walk_by_the_letter(lengths, batch_size):
    sessions = [list(range(length)) for length in lengths]
    assert scheduled(lengths, batch_size) == walk(sessions, batch_size)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_nothing_is_dropped_and_all_slots_are_live_until_no_session_waits(batch_size):
    lengths = np.random.default_rng(0).integers(1, 12, 200)
    steps = scheduled(lengths, batch_size)
    assert sum(map(len, steps)) == (lengths - 1).sum()
    last_start = max(at for at, rows in enumerate(steps) if any(position == 0 for _, _, position in rows))
    slots = min(batch_size, (lengths > 1).sum())
    assert all(len(rows) == slots for rows in steps[: last_start + 1])


def test_draws_are_the_inverted_distribution_function():
    counts = np.random.default_rng(0).integers(0, 50, 300)
    popularity = Popularity(counts, 0.75)
    u = np.random.default_rng(5).random(20_000)
    expected = np.searchsorted(popularity.cdf, u, side="right")
    np.testing.assert_array_equal(popularity.draw(np.random.default_rng(5), 20_000), expected)
    assert (counts[expected] > 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_follow_the_counts_to_the_power_of_alpha(alpha):
    counts, draws = np.array([1, 2, 5, 10, 100, 3]), 200_000
    found = np.bincount(Popularity(counts, alpha).draw(np.random.default_rng(1), draws), minlength=6)
    expected = draws * counts**alpha / (counts**alpha).sum()
    assert ((found - expected) ** 2 / expected).sum() < 20.5  # chi-square with 5 degrees of freedom: p = 0.001


def test_rare_items_of_a_large_catalogue_can_be_drawn():
    counts = np.ones(3_000_000, np.int64)
    counts[0] = 10**9
    popularity = Popularity(counts, 1.0)
    assert (np.diff(popularity.cdf) > 0).all()


def test_negatives_of_a_step_do_not_depend_on_where_one_starts():
    popularity = Popularity(np.arange(1, 50), 0.5)
    whole = Negatives(popularity, 3, np.random.default_rng(2))
    expected = [whole.at(step).copy() for step in range(600)]
    for start in (0, 1, 255, 256, 599):
        again = Negatives(popularity, 3, np.random.default_rng(2))
        np.testing.assert_array_equal(again.at(start), expected[start])
    assert not np.array_equal(expected[0], expected[256])


def test_few_negatives_are_held_at_once():
    negatives = Negatives(Popularity(np.ones(10, np.int64), 1.0), 100_000, np.random.default_rng(0))
    negatives.at(0)
    assert negatives.drawn.nbytes <= 4 << 20
