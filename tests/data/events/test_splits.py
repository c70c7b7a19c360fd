"""Splits: every event in one part, of the promised sizes, the same every time; compared with plain Python."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import event_data, raw_events
from worlds.plain_log import (
    CASES,
    DAY,
    NAMES,
    ROWS,
    by_unit,
    counted,
    made_of,
    on_training_items,
    plain_last_days,
    plain_latest_fraction,
    plain_leave_last_out,
    plain_temporal,
    plain_units,
    raw_of,
)

from recrun.data.events import split_rules as rules
from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.types import DROPPED, INPUT, TEST, TRAIN, VALID
from recrun.errors import ConfigError, DataError

# Strong draws after it has left such items out: it has a test of its own below.
ON_TRAINING_ITEMS = [case for case in CASES if case[0].catalogue == "train" and not isinstance(case[0], splits.Strong)]

units_of_events = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda u: np.sort(np.array(u, np.int32)))
seeds = st.integers(0, 2**32 - 1)
fractions = st.tuples(st.floats(0.01, 0.95), st.floats(0.01, 0.95)).filter(lambda pair: sum(pair) < 0.999)


def log_of(rows, order="time", unit="user", parts=False):
    return Filters().apply(raw_of(rows, unit, parts), unit, order)


def parts_by_unit(log, part):
    return {
        unit: part[begin:end].tolist()
        for unit, (begin, end) in zip(log.units.tolist(), pairwise(log.offsets), strict=True)
    }


# ---- all splits


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_every_event_is_in_one_part_or_counted_as_dropped(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    split, order, unit, parts = case
    log = plain_units(rows, order, unit, parts)
    left, there = by_unit(made), {unit: [event.item for event in events] for unit, events in log.items()}
    dropped = made.counts.get("unknown_items", 0) + made.counts.get("events_after_a_cut", 0)
    assert sum(map(len, left.values())) + dropped == len(rows)
    assert not counted(left) - counted({unit: [(item,) for item in items] for unit, items in there.items()})
    for number, events in left.items():
        rest = iter(there[number])
        assert all(item in rest for item, _ in events)  # in the same order
    assert {part for events in left.values() for _, part in events} <= {TRAIN, VALID, TEST, INPUT}
    assert any(part == TRAIN for events in left.values() for _, part in events)
    trained = {item for events in left.values() for item, part in events if part == TRAIN}
    if split.catalogue == "train":
        assert set(made.items.tolist()) == trained
    elif not made.counts.get("events_after_a_cut"):
        assert set(made.items.tolist()) == {item for _, item, _, _ in rows}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(rows=ROWS)
def test_a_split_is_the_same_every_time(case, rows):
    one, other = made_of(rows, case), made_of(rows, case)
    assert (one is None) == (other is None)
    if one is not None:
        assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("case", ON_TRAINING_ITEMS)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_the_catalogue_of_training_leaves_out_and_counts_what_the_whole_one_holds(case, rows):
    split, *rest = case
    whole = made_of(rows, (type(split)(**{**vars(split), "catalogue": "all"}), *rest))
    if whole is None:
        return
    made = made_of(rows, case)
    kept, unknown = on_training_items(by_unit(whole))
    assert by_unit(made) == kept
    assert made.counts["unknown_items"] == unknown


@pytest.mark.parametrize("split", [splits.Random(), splits.Strong(heldout_users=2)], ids=["random", "strong"])
@settings(max_examples=30, deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_draw_depends_neither_on_times_nor_on_the_order_of_the_file(split, rows, data):
    """Where no unit has an item twice: repeated events are told apart by their order alone."""
    distinct = list({row[:2]: row for row in rows}.values())
    if len({row[0] for row in distinct}) < 5:
        return
    shuffled = data.draw(st.permutations(distinct))
    found = []
    for order in ("time", "file", "none"):
        for rows_ in (distinct, shuffled):
            log = log_of(rows_, order)
            part = split.assign(log).part
            names = zip(log.units[log.unit].tolist(), log.items[log.item].tolist(), part.tolist(), strict=True)
            found.append(sorted(names))
    assert all(one == found[0] for one in found)


# ---- random


@given(units_of_events, fractions, seeds)
def test_random_gives_each_unit_its_shares_and_a_training_event(unit, fractions, seed):
    valid, test = fractions
    part = rules.random_split(unit, valid, test, np.random.default_rng(seed))
    assert part.shape == unit.shape
    for u in np.unique(unit):
        n = np.count_nonzero(unit == u)
        sizes = np.bincount(part[unit == u], minlength=3)
        assert sizes[TRAIN] >= 1
        assert (sizes[TEST] >= 1) == (n >= 2)
        if n * min(fractions) >= 1:
            assert sizes[TEST] == np.floor(n * test + 1e-9)
            assert sizes[VALID] == np.floor(n * valid + 1e-9)
        elif max(fractions) < 0.5:
            assert (sizes[VALID] >= 1) == (n >= 3)


@given(units_of_events, seeds)
def test_random_is_decided_by_the_seed(unit, seed):
    first, again = (rules.random_split(unit, 0.2, 0.2, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_another_seed_draws_others():
    log = log_of([(unit, item, 0, 0) for unit in range(9) for item in range(9)])
    one, other = (splits.Random(seed=seed).assign(log).part for seed in (0, 1))
    assert (one != other).any()
    one, other = (splits.Strong(heldout_users=2, seed=seed).assign(log).part for seed in (0, 1))
    assert (one != other).any()


def test_random_draws_every_event_alike():
    unit = np.zeros(10, np.int32)
    rng = np.random.default_rng(0)
    tests = sum((rules.random_split(unit, 0.1, 0.3, rng) == TEST).astype(int) for _ in range(2000))
    assert tests.sum() == 6000
    assert abs(tests - 600).max() < 100  # five standard deviations


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (9, [7, 1, 1]), (10, [8, 1, 1]), (20, [16, 2, 2])],
)
def test_random_sizes_by_hand(n, expected):
    part = rules.random_split(np.zeros(n, np.int32), 0.1, 0.1, np.random.default_rng(0))
    assert np.bincount(part, minlength=3).tolist() == expected


# ---- temporal


def test_temporal_cuts_all_events_in_time_and_ties_in_input_order():
    time = np.array([5.0, 1, 9, 9, 2, 3, 9, 4, 0, 6])
    part = rules.temporal_split(time, 0.2, 0.2)
    assert np.flatnonzero(part == TEST).tolist() == [3, 6]  # the later two of the three nines
    assert np.flatnonzero(part == VALID).tolist() == [2, 9]


@settings(deadline=None)
@given(ROWS, fractions)
def test_temporal_equals_plain_python(rows, fractions):
    log = log_of(rows)
    found = splits.Temporal(*fractions).assign(log)
    assert parts_by_unit(log, found.part) == plain_temporal(plain_units(rows, "time"), *fractions)
    assert found.in_order


# ---- leave_last_out


@pytest.mark.parametrize("order", ["time", "file"])
@settings(deadline=None)
@given(ROWS)
def test_leave_last_out_equals_plain_python(order, rows):
    log, units = log_of(rows, order), plain_units(rows, order)
    found = splits.LeaveLastOut().assign(log)
    assert parts_by_unit(log, found.part) == plain_leave_last_out(units)
    assert found.counts == {"units_below_3_events": sum(len(events) < 3 for events in units.values())}
    first = np.zeros(len(log), bool)
    first[log.offsets[:-1]] = True
    assert (found.part[first] == TRAIN).all()  # the first event is never a target


# ---- strong


@given(st.integers(3, 50), st.data())
def test_hold_out_units_counts(n, data):
    count = data.draw(st.integers(1, (n - 1) // 2))
    role = rules.hold_out_units(n, count, np.random.default_rng(0))
    assert np.bincount(role, minlength=3).tolist() == [n - 2 * count, count, count]


@pytest.mark.parametrize(
    ("n", "fold_in", "min_events", "held_out"),
    [
        (1, 0.8, 5, 0),
        (4, 0.8, 5, 0),
        (5, 0.8, 5, 1),
        (9, 0.8, 5, 1),
        (10, 0.8, 5, 2),
        (100, 0.8, 5, 20),
        (4, 0.8, 4, 1),  # a fifth of 4 is none, but one is held out of 2 or more
        (2, 0.9, 1, 1),
        (1, 0.1, 1, 0),
        (4, 0.5, 5, 0),
        (7, 0.5, 5, 3),
    ],
)
def test_fold_in_by_hand(n, fold_in, min_events, held_out):
    target = rules.held_out_events(np.full(n, 3, np.int32), fold_in, min_events, np.random.default_rng(0))
    assert np.count_nonzero(target) == held_out


def test_fold_in_of_nobody():
    assert len(rules.held_out_events(np.zeros(0, np.int32), 0.8, 5, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("catalogue", ["train", "all"])
@pytest.mark.parametrize("order", ["time", "none"])
@settings(max_examples=60, deadline=None)
@given(
    rows=ROWS.filter(lambda rows: len({row[0] for row in rows}) >= 3),
    fold_in=st.sampled_from([0.2, 0.5, 0.8]),
    min_events=st.integers(1, 6),
    seed=st.integers(0, 50),
)
def test_strong_holds_out_units_and_shows_a_share_of_each(catalogue, order, rows, fold_in, min_events, seed):
    log = log_of(rows, order)
    split = splits.Strong(1, fold_in, min_events, seed, catalogue=catalogue)
    found = split.assign(log)
    parts = parts_by_unit(log, found.part)
    trained = [unit for unit, part in parts.items() if TRAIN in part]
    assert all(set(parts[unit]) == {TRAIN} for unit in trained)
    assert len(trained) == len(parts) - 2
    units = plain_units(rows, order)
    known = {event.item for unit in trained for event in units[unit]}
    held_out = {unit: part for unit, part in parts.items() if unit not in trained}
    roles = []
    for unit, part in held_out.items():
        lost = [event.item not in known for event in units[unit]] if catalogue == "train" else [False] * len(part)
        assert [code == DROPPED for code in part] == lost
        left = part.count(INPUT) + part.count(VALID) + part.count(TEST)
        expected = 0 if left < max(min_events, 2) else max(1, int(left * (1 - fold_in) + 1e-9))
        assert part.count(VALID) + part.count(TEST) == expected
        roles += {code for code in part if code in (VALID, TEST)}
    assert len(roles) == len(set(roles))  # one unit for validation, one for test
    assert found.counts == {"unknown_items": sum(part.count(DROPPED) for part in parts.values())}
    assert not found.in_order


def test_strong_takes_a_share_or_a_number_of_units():
    assert splits.Strong(heldout_users=0.25).count(12) == 3
    assert splits.Strong(heldout_users=4).count(12) == 4
    with pytest.raises(
        ConfigError, match=r"split.heldout_users=6 holds out 6 units for validation and as many for test, of 12"
    ):
        splits.Strong(heldout_users=6).count(12)
    with pytest.raises(ConfigError, match="at least one is needed for each of train, validation and test"):
        splits.Strong(heldout_users=0.01).count(12)


# ---- whole units by when they begin


@settings(deadline=None)
@given(ROWS, st.sampled_from([0, 0.5, 1, 2]), st.sampled_from([0, 0.25, 1]))
def test_last_days_equal_plain_python(rows, test_days, valid_days):
    log, split = log_of(rows), splits.LastDays(test_days, valid_days)
    expected = plain_last_days_or_none(plain_units(rows, "time"), [(TEST, test_days), (VALID, valid_days)])
    if expected is None:
        with pytest.raises(DataError, match="there are no events to train on: hold out less, or give more data"):
            split.assign(log)
        return
    found = split.assign(log)
    assert parts_by_unit(log, found.part) == expected
    assert found.whole_units
    assert found.asked == tuple(name for name, days in (("valid", valid_days), ("test", test_days)) if days)
    assert found.counts == {"events_after_a_cut": sum(part.count(DROPPED) for part in expected.values())}


def plain_last_days_or_none(units, days_by_code):
    try:
        return plain_last_days(units, days_by_code)
    except ValueError:  # no training event is left for the second cut
        return None


@pytest.mark.parametrize("order", ["time", "file"])
@settings(deadline=None)
@given(ROWS, st.sampled_from([0, 0.2, 0.5]), st.sampled_from([0, 0.3, 0.5]))
def test_latest_fractions_equal_plain_python(order, rows, test_fraction, valid_fraction):
    log = log_of(rows, order)
    split = splits.LatestFraction(test_fraction, valid_fraction)
    expected = plain_latest_fraction(plain_units(rows, order), [(TEST, test_fraction), (VALID, valid_fraction)])
    if valid_fraction and not any(TRAIN in part for part in expected.values()) and test_fraction:
        first = plain_latest_fraction(plain_units(rows, order), [(TEST, test_fraction)])
        if not any(TRAIN in part for part in first.values()):
            with pytest.raises(DataError, match="hold out less"):
                split.assign(log)
            return
    found = split.assign(log)
    assert parts_by_unit(log, found.part) == expected


def test_last_days_hold_out_the_units_that_begin_in_them_and_cut_the_others():
    """Days of 4 quarters; the last event is at 12, the cut at 8: b begins before it and ends after it."""
    rows = [(0, 1, 0, 0), (0, 2, 1, 0), (1, 1, 6, 0), (1, 2, 7, 0), (1, 1, 9, 0), (2, 2, 8, 0), (2, 1, 9, 0)]
    log = log_of([*rows, (3, 1, 12, 0)])
    found = splits.LastDays(test_days=1, valid_days=0).assign(log)
    assert parts_by_unit(log, found.part) == {0: [0, 0], 1: [0, 0, DROPPED], 2: [2, 2], 3: [2]}


# ---- provided


def test_provided_parts_of_users_stay_and_those_of_sessions_are_whole_units():
    rows = [(0, 1, 3, TRAIN), (0, 2, 1, TEST), (1, 2, 2, VALID), (1, 1, 0, TRAIN)]
    log = log_of(rows, "time", "user", parts=True)
    found = splits.Provided().assign(log)
    assert parts_by_unit(log, found.part) == {0: [TEST, TRAIN], 1: [TRAIN, VALID]}
    assert (found.whole_units, found.in_order, found.asked) == (False, True, ("valid", "test"))
    assert not splits.Provided().assign(log_of(rows, "none", "user", parts=True)).in_order
    log = log_of([(0, 1, 0, 0), (0, 2, 1, 0), (2, 2, 3, 0), (2, 1, 4, 0)], "time", "session", parts=True)
    found = splits.Provided().assign(log)
    assert parts_by_unit(log, found.part) == {0: [TRAIN] * 2, 2: [TEST] * 2}
    assert (found.whole_units, found.asked) == (True, ("test",))


def sessions_in_parts(count, part):
    """Sessions 0, 3, … are of train, 2, 5, … of test; each of 2 events, one begins every quarter of a day."""
    step = {TRAIN: 0, TEST: 2}[part]
    return [(3 * number + step, item, number, 0) for number in range(count) for item in (1, 2)]


def test_validation_sessions_are_taken_from_the_end_of_train():
    rows = sessions_in_parts(8, TRAIN) + sessions_in_parts(2, TEST)
    log = log_of(rows, "time", "session", parts=True)
    by_days = parts_by_unit(log, splits.Provided(valid_days=0.5).assign(log).part)
    # Train begins from 0 to 7 quarters: its last half day begins at 5.
    assert [unit for unit, part in by_days.items() if part == [VALID] * 2] == [15, 18, 21]
    by_share = parts_by_unit(log, splits.Provided(valid_fraction=0.25).assign(log).part)
    assert [unit for unit, part in by_share.items() if part == [VALID] * 2] == [18, 21]
    assert all(by_share[unit] == [TEST] * 2 for unit in (2, 5))
    with pytest.raises(ConfigError, match=r"split.valid_days=1 and split.valid_fraction=0.5: give one of them"):
        splits.Provided(valid_days=1, valid_fraction=0.5).assign(log)


def test_validation_events_of_users_are_a_random_share_of_training():
    rows = [(unit, item, item, TRAIN) for unit in range(20) for item in range(7)] + [(0, 0, 12, TEST), (1, 1, 12, TEST)]
    log = log_of(rows, "time", "user", parts=True)
    part = splits.Provided(valid_fraction=0.3).assign(log).part
    found = parts_by_unit(log, part)
    assert all(part.count(VALID) == 2 for part in found.values())  # floor(0.3 * 7)
    assert [unit for unit, part in found.items() if TEST in part] == [0, 1]
    again, other = (splits.Provided(valid_fraction=0.3, seed=seed).assign(log).part for seed in (0, 1))
    assert (again == part).all()
    assert (other != part).any()


def test_files_with_validation_keep_it():
    rows = [(0, 1, 0, TRAIN), (0, 2, 1, VALID), (0, 3, 2, TEST), (0, 4, 0, TRAIN)]
    log = log_of(rows, "time", "user", parts=True)
    part = splits.Provided(valid_fraction=0.5).assign(log).part
    assert parts_by_unit(log, part) == {0: [TRAIN, TRAIN, VALID, TEST]}


# ---- refusals


@pytest.mark.parametrize("split", [splits.Random(0.5, 0.5), splits.Temporal(0.6, 0.4)], ids=["random", "temporal"])
def test_shares_must_leave_something(split):
    with pytest.raises(ConfigError, match=r"split.valid_fraction=0.\d and split.test_fraction=.*leave nothing"):
        split.assign(log_of([(0, 0, 0, 0)] * 3))


@pytest.mark.parametrize("order", ["file", "none"])
@pytest.mark.parametrize(("name", "split"), [("temporal", splits.Temporal()), ("last_days", splits.LastDays())])
def test_splits_in_time_need_times(order, name, split):
    with pytest.raises(DataError, match=rf"split={name} needs the time of each event.*dataset.time_column.*random"):
        split.assign(log_of([(0, 0, 0, 0)] * 3, order))
    rows = [(0, 1, 0, 0), (3, 1, 0, 0), (6, 1, 1, 0)]
    with pytest.raises(DataError, match=r"split=provided with split.valid_days=2 needs the time of each event"):
        splits.Provided(valid_days=2).assign(log_of(rows, order, "session", parts=True))


@pytest.mark.parametrize(
    ("name", "split"), [("leave_last_out", splits.LeaveLastOut()), ("fraction", splits.LatestFraction())]
)
def test_splits_in_order_need_an_order(name, split):
    with pytest.raises(DataError, match=rf"split={name} needs the events of each unit in order.*dataset.order=file"):
        split.assign(log_of([(0, 0, 0, 0)] * 3, "none"))


def test_a_source_without_parts_is_not_split_already():
    with pytest.raises(ConfigError, match=r"split=provided needs files that are split already, not dataset.source"):
        event_data(raw_events([(1, 1), (1, 2)]), "provided")


def test_days_are_days():
    assert DAY == rules.DAY
