"""Session-parallel schedules against a walk by the letter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.sessions import walk

from recrun.data.loaders.session_schedule import Schedule

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
