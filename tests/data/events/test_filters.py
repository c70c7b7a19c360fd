"""Filters: repeats and minimum counts against plain Python."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import raw_events
from worlds.plain_log import ROWS, plain_units, raw_of

from recrun.data.events.filters import Filters
from recrun.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=80)


def pairs_of(log):
    return list(zip(log.units[log.unit].tolist(), log.items[log.item].tolist(), strict=True))


def kept(pairs, times=None, **filters):
    return Filters(**filters).apply(raw_events(pairs, times))


# ---- repeats


@given(PAIRS)
def test_each_pair_stays_once(pairs):
    for repeats in ("first", "last"):
        log = kept(pairs, repeats=repeats)
        assert pairs_of(log) == sorted(set(pairs))
        assert log.counts["repeats"] == len(pairs) - len(set(pairs))
    assert pairs_of(kept(pairs)) == sorted(pairs)
    assert "repeats" not in kept(pairs).counts


@settings(deadline=None)
@given(ROWS, st.sampled_from(["time", "file"]))
def test_the_first_or_the_last_row_of_the_file_stays(rows, order):
    """Whatever their times are."""
    for repeats, last in (("first", False), ("last", True)):
        log = Filters(repeats=repeats).apply(raw_of(rows), None, order)
        number = {(unit, item): row for row, (unit, item, *_) in list(enumerate(rows))[:: 1 if last else -1]}
        expected = {
            unit: [event.item for event in events if number[unit, event.item] == event.row]
            for unit, events in plain_units(rows, order).items()
        }
        assert pairs_of(log) == [(unit, item) for unit, items in expected.items() for item in items]


def test_the_first_or_the_last_row_by_hand():
    pairs, times = [(1, 1), (0, 2), (1, 1), (1, 3)], [30, 20, 10, 25]
    assert kept(pairs, times, repeats="first").time.tolist() == [20, 25, 30]
    assert kept(pairs, times, repeats="last").time.tolist() == [20, 10, 25]


def test_repeats_can_be_refused():
    told = r"n1 has item 2 more than once \(1 repeated rows\); dataset.filters.repeats=first or last keeps one of each"
    with pytest.raises(DataError, match=told):
        kept([("n1", 2), ("n0", 0), ("n1", 2)], repeats="error")
    assert len(kept([("n1", 2), ("n0", 2)], repeats="error")) == 2


# ---- duplicates and repeats of the event before


@settings(deadline=None)
@given(ROWS)
def test_duplicate_events_repeat_unit_item_and_time(rows):
    log = Filters(duplicate_events="drop").apply(raw_of(rows))
    units = plain_units(rows, "time")
    expected = []
    for unit, events in units.items():
        seen = set()
        for event in events:
            if (event.item, event.clock) not in seen:
                expected.append((unit, event.item))
            seen.add((event.item, event.clock))
    assert pairs_of(log) == expected
    assert log.counts["duplicate_events"] == len(rows) - len(expected)


@given(PAIRS)
def test_without_times_duplicate_events_repeat_unit_and_item(pairs):
    log = Filters(duplicate_events="drop").apply(raw_events(pairs), None, "file")
    assert pairs_of(log) == sorted(set(pairs), key=lambda pair: (pair[0], pairs.index(pair)))


@settings(deadline=None)
@given(ROWS)
def test_immediate_repeats_have_the_item_of_the_event_before(rows):
    log = Filters(immediate_repeats="drop").apply(raw_of(rows))
    expected = [
        (unit, event.item)
        for unit, events in plain_units(rows, "time").items()
        for before, event in zip([None, *events], events, strict=False)
        if before is None or before.item != event.item
    ]
    assert pairs_of(log) == expected
    assert log.counts["immediate_repeats"] == len(rows) - len(expected)


def test_duplicates_are_kept_or_dropped_by_hand():
    pairs, times = [("a", 1), ("a", 2), ("a", 1), ("a", 2)], [1, 1, 1, 2]
    assert [item for _, item in pairs_of(kept(pairs, times))] == [1, 2, 1, 2]
    assert [item for _, item in pairs_of(kept(pairs, times, duplicate_events="drop"))] == [1, 2, 2]
    both = kept(pairs, times, duplicate_events="drop", immediate_repeats="drop")
    assert [item for _, item in pairs_of(both)] == [1, 2]


# ---- minimum counts


@given(PAIRS, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_core_fixed_point_equals_a_loop(pairs, min_unit, min_item, distinct):
    left = sorted(set(pairs)) if distinct else sorted(pairs)
    before = len(left)
    while True:
        items = Counter(item for _, item in left)
        some = [pair for pair in left if items[pair[1]] >= min_item]
        units = Counter(unit for unit, _ in some)
        some = [pair for pair in some if units[pair[0]] >= min_unit]
        if some == left:
            break
        left = some
    filters = {"repeats": "first" if distinct else "keep", "min_unit_count": min_unit, "min_item_count": min_item}
    if not left:
        with pytest.raises(DataError, match="no events are left"):
            kept(pairs, **filters)
        return
    log = kept(pairs, **filters)
    assert pairs_of(log) == left
    assert log.counts["below_min_count"] == before - len(left)
    assert (np.bincount(log.item) > 0).all()  # what has no event is no id either
    assert (log.lengths > 0).all()


def test_core_once_filters_items_then_units():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (2, 4)]
    log = kept(pairs, min_unit_count=2, min_item_count=2, core="once")
    assert pairs_of(log) == [(0, 0), (0, 1)]  # item 1 is left with one user
    assert log.counts["below_min_count"] == 5
    with pytest.raises(DataError, match="no events are left"):
        kept(pairs, min_unit_count=2, min_item_count=2)


def test_all_filters_hold_in_the_end():
    rng = np.random.default_rng(0)
    rows = [(s, int(i), t + 100 * s) for s in range(60) for t, i in enumerate(rng.zipf(1.5, rng.integers(1, 8)) % 30)]
    filters = {"min_unit_count": 3, "min_item_count": 5, "immediate_repeats": "drop"}
    log = kept([row[:2] for row in rows], [row[2] for row in rows], **filters)
    frame = pd.DataFrame(rows, columns=["s", "i", "t"])
    frame = frame[(frame.i != frame.groupby("s").i.shift()).to_numpy()]
    size = -1
    while size != len(frame):
        size = len(frame)
        frame = frame[frame.groupby("i").s.transform("size") >= 5]
        frame = frame[frame.groupby("s").i.transform("size") >= 3]
    assert len(frame) > 20
    assert pairs_of(log) == list(zip(frame.s.tolist(), frame.i.tolist(), strict=True))


# ---- nothing left


def test_nothing_left_says_which_filter_took_how_many():
    raw = raw_events([(0, 0), (0, 0), (1, 1)])
    raw = replace(raw, counts={"rows_read": 5, "below_threshold": 2})
    with pytest.raises(DataError) as error:
        Filters(threshold=4, repeats="first", min_unit_count=3).apply(raw)
    assert str(error.value) == (
        "no events are left of 5 rows: dataset.filters.threshold=4 dropped 2, repeats=first dropped 1, "
        "min_unit_count=3 and min_item_count=1 dropped 2"
    )


def test_nothing_read_is_refused_too():
    empty = raw_events([(0, 0)]).take(np.zeros(1, bool))
    with pytest.raises(DataError, match=r"no events are left of 0 rows: none were read"):
        Filters(repeats="first").apply(replace(empty, counts={"rows_read": 0}))
